"""What tests of bad days ask of a daemon with images: pulls, pushes, and whether all is well."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon import Daemon
from tests.lying_registry import LyingRegistry
from tests.registries import Registry
from tests.session import eventually

Hub = LyingRegistry | Registry


@dataclass(frozen=True)
class Outcome:
    """How a request ended whose answer is a stream of messages."""

    status: int
    messages: list[dict[str, Any]]

    @property
    def error(self) -> str:
        """The one error, or "" if all went well."""
        found = [m.get("error") or m.get("message") or "" for m in self.messages]
        found = [text for text in found if text]
        assert len(found) <= 1, found
        if self.status >= 400:
            assert found, self
        return found[0] if found else ""

    @property
    def text(self) -> str:
        """All that it said, a line each."""
        keys = ("id", "status", "stream", "error")
        return "\n".join(
            " ".join(str(m[key]).strip() for key in keys if m.get(key)) for m in self.messages
        )


def _outcome(status: int, body: bytes) -> Outcome:
    return Outcome(status, [json.loads(line) for line in body.splitlines() if line.strip()])


def credentials(user: str, password: str) -> str:
    """Return an X-Registry-Auth."""
    document = json.dumps({"username": user, "password": password}).encode()
    return base64.urlsafe_b64encode(document).decode()


def pull(daemon: Daemon, name: str, *, platform: str = "", auth: str = "") -> Outcome:
    """Pull an image; return how it ended."""
    path = f"/images/create?fromImage={name}{f'&platform={platform}' if platform else ''}"
    answer = daemon.request("POST", path, None, {"X-Registry-Auth": auth} if auth else {})
    return _outcome(answer.status, answer.body)


def push(daemon: Daemon, name: str, *, auth: str = "e30=") -> Outcome:
    """Push an image; return how it ended."""
    repository, _, tag = name.rpartition(":")
    path = f"/images/{repository}/push?tag={tag}"
    answer = daemon.request("POST", path, None, {"X-Registry-Auth": auth})
    return _outcome(answer.status, answer.body)


def load(daemon: Daemon, content: bytes) -> Outcome:
    answer = daemon.request(
        "POST", "/images/load?quiet=1", content, {"Content-Type": "application/x-tar"}
    )
    return _outcome(answer.status, answer.body)


def import_(daemon: Daemon, content: bytes, repository: str) -> Outcome:
    answer = daemon.request(
        "POST",
        f"/images/create?fromSrc=-&repo={repository}&tag=1",
        content,
        {"Content-Type": "application/x-tar"},
    )
    return _outcome(answer.status, answer.body)


def tag(daemon: Daemon, name: str, new: str) -> None:
    repository, _, tag = new.rpartition(":")
    answer = daemon.request("POST", f"/images/{name}/tag?repo={repository}&tag={tag}")
    assert answer.status == 201, answer.body


def names(daemon: Daemon) -> set[str]:
    """Return the names of all images."""
    images = daemon.request("GET", "/images/json?all=1").json
    return {name for image in images for name in image["RepoTags"] or [image["Id"]]}


def is_visible(daemon: Daemon, name: str) -> bool:
    return daemon.request("GET", f"/images/{name}/json").status == 200


def check(daemon: Daemon) -> None:
    """Fail if the checker of the store finds anything."""
    answer = daemon.request("GET", "/system/check")
    assert answer.status == 200, answer.body
    assert answer.json["Problems"] in (None, []), answer.json["Problems"]


def forget(daemon: Daemon, *kept: str) -> None:
    """Remove all images but those with these names, and what interrupted pulls have left."""
    daemon.remove_containers()
    for image in daemon.request("GET", "/images/json?all=1").json:
        found = [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
        for name in found if set(kept) & set(found) else [image["Id"]]:
            if name not in kept:
                daemon.request("DELETE", f"/images/{name}?force=1")
    daemon.request("POST", '/images/prune?filters={"dangling":["true"]}')


def stored(daemon: Daemon) -> set[str]:
    """Return the blobs, snapshots and unfinished files of a daemon."""
    return stored_below(daemon.data_root, daemon.driver)


def at_rest(daemon: Daemon) -> set[str]:
    """Return the same when nothing is under way: what is thrown away goes in the background."""
    found: set[str] = set()

    def rests() -> bool:
        found.clear()
        found.update(stored(daemon))
        snapshots = daemon.data_root / "snapshots" / daemon.driver
        passing = (snapshots / name for name in (".new", ".trash"))
        return not any(list(path.iterdir()) for path in passing if path.is_dir()) and (
            found == stored(daemon)
        )

    with contextlib.suppress(AssertionError):
        eventually(rests)
    return found


def stored_below(root: Path, driver: str) -> set[str]:
    """Return the same of a data root with one storage driver."""
    snapshots = root / "snapshots" / driver
    folders = [
        *root.glob("content/blobs/*"),
        *(root / "content/ingest", snapshots),
        *(snapshots / name for name in (".new", ".trash")),
    ]
    return {
        str(path.relative_to(root))
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name != ".lock"
    }


def settles(daemon: Daemon, expected: set[str]) -> None:
    """Wait until the daemon has stored exactly this; what is thrown away goes in the background."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: stored(daemon) == expected)
    left, missing = stored(daemon) - expected, expected - stored(daemon)
    assert not left | missing, (left, missing)


@contextlib.contextmanager
def meanwhile(action: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Run an action in a thread; it is waited for at the end, whatever became of it."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(action)
        try:
            yield future
        finally:
            with contextlib.suppress(Exception):
                future.result(30)


def storage_helpers(daemon: Daemon) -> list[int]:
    """Return the processes of the storage helper."""
    found = []
    for pid in daemon.processes():
        with contextlib.suppress(OSError):
            if b"sampan.helpers.mount" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def complete(daemon: Daemon) -> int:
    """Return how many layers the daemon has, durably and in their places."""
    database = next(daemon.data_root.glob("*.sqlite"))
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        return int(opened.execute("SELECT count(*) FROM image_chains").fetchone()[0])


def memory(daemon: Daemon) -> int:
    """Return the proportional set size of all processes of a daemon, in bytes."""
    total = 0
    for pid in daemon.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total << 10
