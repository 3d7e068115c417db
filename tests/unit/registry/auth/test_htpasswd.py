from __future__ import annotations

import asyncio
import base64
import os
import threading
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from sampan.errors import InvalidArgument
from sampan.registry.auth.access import Grant
from sampan.registry.auth.basic import credentials
from sampan.registry.auth.htpasswd import Htpasswd, parse
from sampan.registry.registry import Registry
from tests.own_registry import Answer, Shop, serving


def entry(password: str, kind: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, kind)).decode()


def ask(shop: Shop, user: str, password: str) -> Answer:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return shop.ask("GET", "/v2/", headers={"Authorization": f"Basic {pair}"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "users"
    file.write_text(f"# users\n\ncaptain:{entry('secret')}\nold:{{SHA}}xyz\nplain:secret\n")
    return file


def test_users_get_in_and_nobody_else(path: Path) -> None:
    with Registry.in_memory() as registry, serving(registry, access=_access(path)) as shop:
        for _ in range(2):  # the second time, the password is remembered
            assert ask(shop, "captain", "secret").status == 200
            assert ask(shop, "captain", "wrong").status == 401
        for user, password in (
            *(("mate", "secret"), ("captain", ""), ("", ""), ("old", "xyz"), ("plain", "secret")),
            *(("captain", "x" * 100), ("captain", "a\0b")),
        ):
            assert ask(shop, user, password).status == 401
        answer = shop.get("/v2/")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.header("www-authenticate") == 'Basic realm="hub"'


def _access(path: Path) -> Htpasswd:
    return Htpasswd("hub", str(path))


def test_wrong_passwords_do_not_use_up_the_threads_of_the_storage(path: Path) -> None:
    used: set[str] = set()

    class Watched(Htpasswd):
        def authorize(self, *arguments: Any) -> Grant:
            used.add(threading.current_thread().name.partition("_")[0])
            return super().authorize(*arguments)

    access = Watched("hub", str(path))
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        ask(shop, "captain", "wrong")
    assert used == {"login"}


def test_who_was_right_before_waits_for_nobody(path: Path) -> None:
    threads: list[str] = []

    class Watched(Htpasswd):
        def authorize(self, *arguments: Any) -> Grant:
            threads.append(threading.current_thread().name.partition("_")[0])
            return super().authorize(*arguments)

    access = Watched("hub", str(path))
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        for password in ("secret", "secret", "wrong"):
            ask(shop, "captain", password)
        path.write_text(f"captain:{entry('other')}\n")
        ask(shop, "captain", "secret")
        path.unlink()
        ask(shop, "captain", "other")
        assert shop.get("/v2/").status == 401
    assert threads == ["login", "MainThread", "login", "login", "login", "MainThread"]


def test_who_guesses_leaves_others_a_thread(path: Path) -> None:
    held, guesses = threading.Event(), []

    class Slow(Htpasswd):
        def authorize(self, request: Request, *arguments: Any) -> Grant:
            if request.client and request.client.host == "192.0.2.66":
                guesses.append(held.wait(60))
            return super().authorize(request, *arguments)

    pair = base64.b64encode(b"captain:secret").decode()
    headers = {"Authorization": f"Basic {pair}"}

    async def main(shop: Shop) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(shop.asked("GET", "/v2/", b"", headers, client="192.0.2.66"))
            await asyncio.sleep(0)
            answer = await shop.asked("GET", "/v2/", b"", headers, client="192.0.2.7")
            assert (answer.status, guesses) == (200, [])
            held.set()

    access = Slow("hub", str(path))
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        asyncio.run(main(shop))


def test_a_changed_file_counts_at_once(path: Path) -> None:
    with Registry.in_memory() as registry, serving(registry, access=_access(path)) as shop:
        assert ask(shop, "captain", "secret").status == 200
        path.write_text(f"captain:{entry('other')}\n")
        os.utime(path, (1, 1))
        assert ask(shop, "captain", "secret").status == 401
        assert ask(shop, "captain", "other").status == 200


def test_a_broken_file_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Registry.in_memory() as registry, serving(registry, access=_access(path)) as shop:
        path.write_bytes(b"\xff")
        assert ask(shop, "captain", "secret").status == 200
        assert "not read anew" in caplog.text
        path.unlink()
        assert ask(shop, "captain", "secret").status == 200


def test_a_missing_file_is_made_with_a_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "made/users"
    access = _access(path)
    assert path.stat().st_mode & 0o777 == 0o600
    password = caplog.text.split()[-1]
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        assert ask(shop, "docker", password).status == 200


def test_a_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("no user\n")
    with pytest.raises(InvalidArgument, match="line 1"):
        _access(path)


def test_apaches_spelling_of_bcrypt_is_taken() -> None:
    assert parse(f"a:{entry('x').replace('$2b$', '$2y$')}").keys() == {"a"}


@given(st.text())
def test_any_header_is_credentials_or_none(text: str) -> None:
    for header in (text, f"Basic {text}"):
        found = credentials(header)
        assert found is None or len(found) == 2


@given(st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])), st.text())
def test_name_and_password_are_what_was_sent(name: str, password: str) -> None:
    pair = base64.b64encode(f"{name}:{password}".encode("utf-8", "replace")).decode()
    found = credentials(f"basic {pair}")
    assert found is not None
    assert found[0] == name
