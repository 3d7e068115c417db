"""Copies of keys for a daemon that is not root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.daemon.certificates import COPIES, folders, give
from sampan.daemon.privileges import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
DAEMON = Identity(uid=65534, gid=65534, socket_gid=65534)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """A folder that everybody may enter."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    place = tmp_path / "certs.d"
    (place / "a.example:5000").mkdir(parents=True, mode=0o755)
    return place


def put(folder: Path, mode: int, *names: str) -> None:
    for name in names:
        (folder / name).write_text(name)
        (folder / name).chmod(mode)


def given(certs: Path) -> dict[str, str]:
    run_root = certs.parent / "run"
    run_root.mkdir(exist_ok=True)
    give([str(certs), "/nonexistent"], str(run_root), DAEMON)
    copies = run_root / COPIES
    return {str(path.relative_to(copies)): path.read_text() for path in copies.glob("*/*")}


def test_what_everybody_may_read_is_not_copied(certs: Path) -> None:
    put(certs / "a.example:5000", 0o644, "ca.crt", "client.cert", "client.key")
    assert given(certs) == {}


def test_a_key_of_root_is_copied_with_its_certificate(certs: Path) -> None:
    own = certs / "a.example:5000"
    put(own, 0o644, "ca.crt", "client.cert", "other.cert", "other.key", "notes.txt")
    put(own, 0o600, "client.key")
    copied = given(certs)
    assert copied == {
        "a.example:5000/client.cert": "client.cert",
        "a.example:5000/client.key": "client.key",
    }
    place = certs.parent / "run" / COPIES
    for path in (place, *place.rglob("*")):
        about = path.stat()
        assert (about.st_uid, about.st_mode & 0o077) == (DAEMON.uid, 0)


def test_of_a_folder_that_the_daemon_cannot_enter_all_is_copied(certs: Path) -> None:
    own = certs / "a.example:5000"
    put(own, 0o644, "ca.crt")
    own.chmod(0o700)
    assert set(given(certs)) == {"a.example:5000/ca.crt"}


def test_a_second_time_replaces_the_first(certs: Path) -> None:
    own = certs / "a.example:5000"
    put(own, 0o600, "client.cert", "client.key")
    assert len(given(certs)) == 2
    (own / "client.key").unlink()
    assert set(given(certs)) == {"a.example:5000/client.cert"}
    (own / "client.cert").unlink()
    assert given(certs) == {}


def test_what_is_no_file_is_left_out(certs: Path) -> None:
    own = certs / "a.example:5000"
    (own / "loop.crt").symlink_to("loop.crt")
    (own / "gone.crt").symlink_to("nothing")
    (own / "folder.key").mkdir(mode=0o700)
    os.mkfifo(own / "pipe.key", 0o600)
    put(own, 0o600, "client.key")
    assert set(given(certs)) == {"a.example:5000/client.key"}


def test_the_daemon_looks_at_the_originals_and_at_the_copies() -> None:
    assert folders(["/a", "/b"], "/run/x") == (Path("/a"), Path("/b"), Path("/run/x/certs.d"))
