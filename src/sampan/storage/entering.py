"""Work that is done as the root of a container's user namespace, by a child that ends with it.

Inside, ids are those of the container, and no file can be reached that its own root could not
reach: a path that leads astray leads nowhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from sampan.errors import Internal, SampanError
from sampan.linux import process
from sampan.linux.namespaces import CLONE_NEWUSER, setns
from sampan.rpc import Fd

T = TypeVar("T")
_REPORT: Final = 64 << 10  # bytes


class _Failure(msgspec.Struct, tag="failure"):
    code: str
    message: str


class _Done(msgspec.Struct, tag="done"):
    value: msgspec.Raw


def as_root_of(user: Fd, work: Callable[[], T], kind: type[T]) -> T:
    """Return what `work`, done as root of a user namespace, returns; raises what it raises."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            pid = os.fork()
            if not pid:
                _child(theirs, user.number, work)
        report = ours.recv(_REPORT)
        os.waitpid(pid, 0)
    if not report:
        raise Internal("the process that works in the user namespace was killed")
    told: _Done | _Failure = msgspec.msgpack.decode(report, type=_Done | _Failure)
    if isinstance(told, _Failure):
        raise SampanError.by_code[told.code](told.message)
    return msgspec.msgpack.decode(told.value, type=kind)


def _child(answer: socket.socket, user: int, work: Callable[[], object]) -> None:
    told: _Done | _Failure
    try:
        # It can be seen from inside where pids are shared; traced it must not be.
        process.prctl(process.PR_SET_DUMPABLE, 0)
        setns(user, CLONE_NEWUSER)
        os.setgroups([])
        process.setresgid(0)
        process.setresuid(0)
        told = _Done(msgspec.Raw(msgspec.msgpack.encode(work())))
    except SampanError as error:
        told = _Failure(error.code, str(error))
    except BaseException as error:  # noqa: BLE001 - there is nobody above
        told = _Failure(Internal.code, f"{type(error).__name__}: {error}")
    try:
        answer.sendall(msgspec.msgpack.encode(told))
    finally:
        os._exit(0)
