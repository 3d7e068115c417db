"""What a container's files refuse is the client's affair; what is wrong with us is not."""

from __future__ import annotations

import errno

import pytest

from sampan.errors import InvalidArgument, NotFound
from sampan.storage.archives.refusals import refusals_of


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG])
def test_what_is_gone_meanwhile_is_not_found(number: int) -> None:
    with pytest.raises(NotFound, match="Could not find the file /x"), refusals_of("/x"):
        raise OSError(number, "", "/inner")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EXDEV, errno.EAGAIN])
def test_what_must_not_be_touched_is_a_refusal(number: int) -> None:
    with pytest.raises(InvalidArgument, match="/x: "), refusals_of("/x"):
        raise OSError(number, "")


def test_a_read_only_place_is_named_as_docker_does() -> None:
    with pytest.raises(InvalidArgument, match="marked read-only"), refusals_of("/x"):
        raise OSError(errno.EROFS, "")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOSPC, errno.ENOMEM])
def test_our_own_trouble_stays_what_it_is(number: int) -> None:
    with pytest.raises(OSError, match="trouble") as caught, refusals_of("/x"):
        raise OSError(number, "trouble")
    assert caught.value.errno == number
