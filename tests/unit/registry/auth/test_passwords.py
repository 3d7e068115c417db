from __future__ import annotations

import bcrypt
import pytest

from sampan.registry.auth.passwords import LIMIT, Passwords

ROUNDS = 4


def _hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that bcrypt has looked at."""
    seen: list[bytes] = []
    check = bcrypt.checkpw

    def counted(password: bytes, entry: bytes) -> bool:
        seen.append(password)
        return check(password, entry)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return seen


def test_who_was_right_is_remembered_and_who_was_wrong_is_not(looks: list[bytes]) -> None:
    passwords, entry = Passwords(ROUNDS), _hashed("secret")
    for _ in range(3):
        assert passwords.match("alice", "secret", entry)
        assert not passwords.match("alice", "wrong", entry)
    assert looks == [b"secret", b"wrong", b"wrong", b"wrong"]


def test_a_changed_password_is_looked_at_again(looks: list[bytes]) -> None:
    passwords = Passwords(ROUNDS)
    assert passwords.match("alice", "secret", _hashed("secret"))
    assert not passwords.match("alice", "secret", _hashed("other"))
    assert passwords.match("alice", "secret", _hashed("secret"))  # another salt
    assert len(looks) == 3


def test_a_memory_is_of_one_name(looks: list[bytes]) -> None:
    passwords, entry = Passwords(ROUNDS), _hashed("secret")
    assert passwords.match("alice", "secret", entry)
    assert passwords.match("bob", "secret", entry)
    assert not passwords.match("alice", "secret", None)
    assert len(looks) == 3


def test_nobody_is_as_slow_to_refuse_as_a_wrong_password(looks: list[bytes]) -> None:
    passwords = Passwords(ROUNDS)
    assert not passwords.match("nobody", "secret", None)
    assert looks == [b"secret"]


def test_a_wrong_name_costs_what_a_user_does(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[bytes] = []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda p, e: costs.append(e[4:6]) or check(p, e))
    passwords = Passwords(ROUNDS)
    passwords.entries = [bcrypt.hashpw(b"secret", bcrypt.gensalt(rounds)) for rounds in (5, 6)]
    names = [f"nobody{number}" for number in range(20)]
    for name in (*names, *names):
        assert not passwords.match(name, "secret", None)
    assert set(costs) == {b"05", b"06"}
    assert costs[:20] == costs[20:]  # each name its own


@pytest.mark.parametrize("password", ["a\0b", "x" * (LIMIT + 1), "ä" * 40])
def test_odd_passwords_match_nothing_and_break_nothing(password: str) -> None:
    assert not Passwords(ROUNDS).match("alice", password, _hashed("secret"))
    assert not Passwords(ROUNDS).match("alice", password, b"no hash")
