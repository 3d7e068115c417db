from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.registry.tokens.accounts import Accounts
from sampan.registry.tokens.rules import Identity, Rule

PULL = ("repository", "x/**", "pull")


def test_a_user_is_known_by_the_password(book: Accounts) -> None:
    book.add_group("dev")
    book.add_user("alice", "secret", ["dev"])
    assert book.check("alice", "secret") == Identity("alice", ("dev",))
    for name, password in (("alice", "wrong"), ("bob", "secret"), ("alice", ""), ("", "")):
        assert book.check(name, password) is None
    for password in ("secret\0", "s" * 73):
        assert book.check("alice", password) is None
    with pytest.raises(Conflict):
        book.add_user("alice", "other")


def test_a_password_has_the_bytes_that_bcrypt_looks_at(book: Accounts) -> None:
    book.add_user("long", "x" * 72)
    assert book.check("long", "x" * 72)
    assert not book.check("long", "x" * 73)
    for password in ("", "x" * 73, "é" * 37, "a\0b"):
        with pytest.raises(InvalidArgument, match="1 to 72 bytes"):
            book.add_user("other", password)


def test_who_is_shut_out_stays_out_until_let_in(book: Accounts) -> None:
    book.add_user("alice", "secret")
    book.disable("alice", True)
    assert book.check("alice", "secret") is None
    assert book.identity("alice") is None
    book.disable("alice", False)
    assert book.check("alice", "secret")


def test_a_new_password_replaces_the_old_one(book: Accounts) -> None:
    book.add_user("alice", "secret")
    book.set_password("alice", "better")
    assert book.check("alice", "better")
    assert not book.check("alice", "secret")


def test_whoever_gets_a_name_later_inherits_nothing(book: Accounts) -> None:
    book.add_group("dev")
    book.add_user("alice", "secret", ["dev"])
    book.add_rule(Rule.parse("user:alice", *PULL))
    book.add_rule(Rule.parse("group:dev", *PULL))
    book.remove_user("alice")
    book.add_user("alice", "other")
    assert [rule.subject for rule in book.rules()] == ["group:dev"]
    assert book.identity("alice") == Identity("alice")
    book.remove_group("dev")
    assert book.rules() == []


def test_what_is_not_there_is_named(book: Accounts) -> None:
    book.add_user("alice", "secret")
    for act in (
        lambda: book.set_password("bob", "x"),
        lambda: book.disable("bob", True),
        lambda: book.remove_user("bob"),
        lambda: book.join("alice", "dev"),
        lambda: book.join("bob", "dev"),
        lambda: book.leave("alice", "dev"),
        lambda: book.remove_group("dev"),
        lambda: book.remove_rule(1),
        lambda: book.add_rule(Rule.parse("user:bob", *PULL)),
        lambda: book.add_rule(Rule.parse("group:dev", *PULL)),
        lambda: book.add_user("carol", "x", ["dev"]),
    ):
        with pytest.raises(NotFound, match="is not there"):
            act()
    assert [user.name for user in book.users()] == ["alice"]
    with pytest.raises(InvalidArgument, match="no name"):
        book.add_user("../x", "secret")


def test_a_rule_of_the_same_subject_and_pattern_is_changed(book: Accounts) -> None:
    first = book.add_rule(Rule.parse("users", *PULL))
    assert book.add_rule(Rule.parse("users", "repository", "x/**", "all")) == first
    assert [rule.actions for rule in book.rules()] == [("pull", "push", "delete")]


def test_another_process_sees_a_change_at_once(book: Accounts, tmp_path: Path) -> None:
    with Accounts(tmp_path / "accounts.db") as other:
        other.add_user("alice", "secret")
        assert book.check("alice", "secret")
    assert (tmp_path / "accounts.db").stat().st_mode & 0o077 == 0


def test_a_login_asks_as_little_of_the_database_where_there_are_many_users(
    book: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda _, entry: tried.append(entry[4:6]))
    asked: list[int] = []
    for count in (30, 300):
        steps: list[None] = []
        book.rows("DELETE FROM users")
        for number in range(count):
            book.add_hashed_user(f"u{number}", f"$2b${10 + number % 3}${number:053}")
        book._database.set_progress_handler(lambda told=steps: told.append(None), 1)
        for number in range(10):
            book.check(f"nobody-{number}", "guess")
        book._database.set_progress_handler(None, 0)
        asked.append(len(steps))
    assert asked[0] == asked[1]
    assert set(tried) == {b"10", b"11", b"12"}  # as slow as one of the users
