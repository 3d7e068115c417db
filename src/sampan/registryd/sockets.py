"""The sockets that the registry listens on: given by systemd, a TCP address, or a path."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sampan.errors import InvalidArgument, Unavailable
from sampan.registry.serving.server import BACKLOG

FIRST_GIVEN = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


@contextmanager
def listening(address: str, kind: str, environment: Mapping[str, str]) -> Iterator[socket.socket]:
    """Lend the socket to serve; a path that was made for it goes at the end."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen(address, kind, environment))
        if kind == "unix" and not _is_given(environment):
            stack.callback(removal(address))
        yield listener


def removal(path: str | Path) -> Callable[[], None]:
    """Return what removes the path of a socket, unless another socket has it by then.

    So has that of a registry which was started while this one came to its end.
    """
    made = os.stat(path)

    def remove() -> None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), made):
                os.unlink(path)

    return remove


def listen(address: str, kind: str, environment: Mapping[str, str]) -> socket.socket:
    """Return the socket to serve. One that systemd gives comes before what is configured."""
    given = _given(environment)
    if given:
        return given
    return _on_path(address) if kind == "unix" else on_address(address)


def _is_given(environment: Mapping[str, str]) -> bool:
    return environment.get("LISTEN_PID") == str(os.getpid())


def _given(environment: Mapping[str, str]) -> socket.socket | None:
    if not _is_given(environment):
        return None
    if environment.get("LISTEN_FDS") != "1":
        raise InvalidArgument("exactly one socket can be given by LISTEN_FDS")
    os.set_inheritable(FIRST_GIVEN, False)
    listener = socket.socket(fileno=FIRST_GIVEN)
    _send_at_once(listener)
    return listener


def on_address(address: str) -> socket.socket:
    """Listen on `host:port`, `[v6]:port` or `:port`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(f"http.addr: {address!r} is no host:port")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # Every address of this machine: one socket that takes IPv6 and IPv4.
        found.sort(key=lambda item: item[0] != socket.AF_INET6 if not host else 0)
        family, *_, place = found[0]
    except (OSError, IndexError, UnicodeError) as error:
        raise InvalidArgument(f"http.addr: {address}: {error}") from error
    with ExitStack() as undo:
        listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _send_at_once(listener)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(host))
        _bind(listener, place, address)
        undo.pop_all()
    return listener


def _send_at_once(listener: socket.socket) -> None:
    """Turn Nagle's algorithm off: else the end of an answer waits 40 ms for the client's ACK.

    Accepted sockets inherit it.
    """
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _on_path(path: str) -> socket.socket:
    if not path:
        raise InvalidArgument("http.addr: the path of the socket is missing")
    try:
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            Path(path).unlink()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise Unavailable(f"listen {path}: {_why(error)}") from error
    with ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX))
        _bind(listener, path, path)
        undo.pop_all()
    return listener


def _bind(listener: socket.socket, place: object, name: str) -> None:
    try:
        listener.bind(place)  # type: ignore[arg-type]
        listener.listen(BACKLOG)
    except (OSError, ValueError) as error:
        raise Unavailable(f"listen {name}: {_why(error)}") from error
    listener.setblocking(False)


def _why(error: OSError | ValueError) -> str:
    """Return a reason; Python's own, of a path that is too long, has no number."""
    return getattr(error, "strerror", None) or str(error)


def name_of(listener: socket.socket) -> str:
    """Return the address that a socket has."""
    place = listener.getsockname()
    if not isinstance(place, tuple):
        return str(place)
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"
