"""Contexts that are kept: what counts as unchanged, and what does not stay."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator

import pytest

from sampan.build.contexts.kept import KeptContexts, Transfer
from sampan.build.files.tree import File
from sampan.storage.archives.tar_fields import REGULAR

LONG_AGO = time.time_ns() - 3600 * 10**9
CONTENT = os.urandom(1 << 20)


@pytest.fixture
def contexts() -> Iterator[KeptContexts]:
    contexts = KeptContexts(lambda: os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR))
    yield contexts
    contexts.drop()


def send(transfer: Transfer, path: bytes, content: bytes = CONTENT, mtime: int = LONG_AGO) -> bool:
    """Have a file sent unless it is there; tell whether it was."""
    file = File(REGULAR, mtime=mtime, size=len(content))
    known = transfer.find(path, file)
    if not known:
        file.at, file.stored, file.digest = transfer.spool.add([content])
    transfer.add(path, file)
    transfer.spool.flush()
    assert transfer.spool.read(file) == content
    assert file.digest == hashlib.sha256(content).digest()
    return known


def build(contexts: KeptContexts, key: str = "key", **files: tuple[bytes, int]) -> list[str]:
    """Have files sent; return the names of those that were there."""
    with contexts.transfer(key) as transfer:
        found = [name for name, given in files.items() if send(transfer, name.encode(), *given)]
        transfer.complete()
        return found


def test_what_has_not_changed_is_not_sent_again(contexts: KeptContexts) -> None:
    assert build(contexts, a=(CONTENT, LONG_AGO), b=(b"b", LONG_AGO)) == []
    assert build(contexts, a=(CONTENT, LONG_AGO), b=(b"c", LONG_AGO + 1)) == ["a"]
    assert build(contexts, a=(CONTENT, LONG_AGO), b=(b"c", LONG_AGO + 1)) == ["a", "b"]
    assert build(contexts, a=(CONTENT, LONG_AGO), b=(b"longer", LONG_AGO + 1)) == ["a"]
    assert build(contexts, other=(CONTENT, LONG_AGO)) == []


def test_what_was_changed_a_moment_ago_is_sent_again(contexts: KeptContexts) -> None:
    now = time.time_ns()
    build(contexts, a=(CONTENT, LONG_AGO), b=(b"b", now), c=(b"c", now + 10**12))
    assert build(contexts, a=(CONTENT, LONG_AGO), b=(b"b", now), c=(b"c", now + 10**12)) == ["a"]


def test_other_keys_and_none_know_nothing(contexts: KeptContexts) -> None:
    build(contexts, a=(CONTENT, LONG_AGO))
    assert build(contexts, "other", a=(CONTENT, LONG_AGO)) == []
    assert build(contexts, "", a=(CONTENT, LONG_AGO)) == []
    assert build(contexts, "", a=(CONTENT, LONG_AGO)) == []


def test_what_comes_after_the_context_is_not_kept(contexts: KeptContexts) -> None:
    with contexts.transfer("key") as transfer:
        send(transfer, b"a")
        transfer.complete()
        transfer.spool.add([bytes(1 << 22)])
    assert len(CONTENT) < contexts.size < len(CONTENT) + 1000
    assert build(contexts, a=(CONTENT, LONG_AGO)) == ["a"]


def test_a_context_that_did_not_come_to_its_end_is_not_kept(contexts: KeptContexts) -> None:
    with pytest.raises(ValueError, match="gone"), contexts.transfer("key") as transfer:
        send(transfer, b"a")
        raise ValueError("gone")
    assert contexts.size == 0


def test_a_build_that_fails_leaves_its_context(contexts: KeptContexts) -> None:
    with pytest.raises(ValueError, match="failed"), contexts.transfer("key") as transfer:
        send(transfer, b"a")
        transfer.complete()
        raise ValueError("failed")
    assert build(contexts, a=(CONTENT, LONG_AGO)) == ["a"]


def test_small_contexts_and_much_waste_are_not_kept(contexts: KeptContexts) -> None:
    build(contexts, a=(b"small", LONG_AGO))
    assert contexts.size == 0
    times = iter(range(LONG_AGO, LONG_AGO + 1000))
    sizes = []
    for _ in range(80):
        build(contexts, a=(CONTENT, next(times)))
        sizes.append(contexts.size)
    assert 0 in sizes
    assert max(sizes) < 70 << 20


def test_a_name_that_would_shift_all_others_is_left_out(contexts: KeptContexts) -> None:
    with contexts.transfer("key") as transfer:
        send(transfer, b"x\0y", b"hostile")
        send(transfer, b"a")
        transfer.complete()
    with contexts.transfer("key") as transfer:
        assert not send(transfer, b"x\0y", b"hostile")
        assert send(transfer, b"a")


def test_a_context_that_a_build_does_not_use_stays(contexts: KeptContexts) -> None:
    build(contexts, a=(CONTENT, LONG_AGO))
    with contexts.transfer("key"):
        pass
    assert build(contexts, a=(CONTENT, LONG_AGO)) == ["a"]
    with contexts.transfer("key"):  # and is the older one of two
        build(contexts, b=(CONTENT, LONG_AGO))
    assert build(contexts, b=(CONTENT, LONG_AGO)) == ["b"]
    with contexts.transfer("other"):
        pass
    assert contexts.drop() < 2 * len(CONTENT)


def test_those_used_last_stay(contexts: KeptContexts) -> None:
    for number in range(9):
        build(contexts, str(number), a=(CONTENT, LONG_AGO))
    assert build(contexts, "0", a=(CONTENT, LONG_AGO)) == []
    assert build(contexts, "8", a=(CONTENT, LONG_AGO)) == ["a"]
    descriptors = len(os.listdir("/proc/self/fd"))
    assert contexts.drop() > 8 * len(CONTENT)
    assert len(os.listdir("/proc/self/fd")) == descriptors - 8
    assert contexts.size == 0


def test_two_at_once_know_nothing_of_each_other(contexts: KeptContexts) -> None:
    build(contexts, a=(CONTENT, LONG_AGO))
    with contexts.transfer("key") as one, contexts.transfer("key") as other:
        assert send(one, b"a")
        assert not send(other, b"a")
        one.complete()
        other.complete()
    assert build(contexts, a=(CONTENT, LONG_AGO)) == ["a"]
