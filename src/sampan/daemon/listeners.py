"""The sockets on which the API is served; opened as root, kept by the supervisor."""

from __future__ import annotations

import os
import socket
import stat
from typing import NamedTuple

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.configuring import tcp_address
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.privileges import Identity

BACKLOG = 1024
FIRST_PASSED = 3  # sd_listen_fds(3)


class Listener(NamedTuple):
    """One listening socket; `path` is removed at the end."""

    sock: socket.socket
    tls: bool = False
    path: str = ""


def open_all(config: Config, who: Identity) -> list[Listener]:
    """Open every --host; raises OSError, UsageError, and then leaves nothing open."""
    listeners: list[Listener] = []
    try:
        for host in config.hosts:
            scheme, _, rest = host.partition("://")
            if scheme == "unix":
                default = os.path.join(config["exec-root"], "sampan.sock")
                listeners.append(_unix(rest or default, who))
            elif scheme == "fd":
                listeners.extend(_passed(config.wants_tls))
            else:
                listeners.extend(_tcp(host, config.wants_tls))
    except BaseException:
        close_all(listeners)
        raise
    return listeners


def close_all(listeners: list[Listener]) -> None:
    """Close the sockets and remove the paths that were made for them."""
    for listener in listeners:
        listener.sock.close()
        if listener.path:
            try:
                os.unlink(listener.path)
            except FileNotFoundError:
                pass


def _unix(path: str, who: Identity) -> Listener:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody may connect before owner and mode are right
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"listen unix {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    os.chown(path, 0, who.socket_gid)
    os.chmod(path, 0o660)
    sock.listen(BACKLOG)
    return Listener(sock, path=path)


def _tcp(host: str, tls: bool) -> list[Listener]:
    address, port = tcp_address(host, tls)
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        listeners = []
        for family, _, _, _, where in dict.fromkeys(found):
            sock = socket.create_server(
                (where[0], port), family=family, backlog=BACKLOG, reuse_port=False
            )
            listeners.append(Listener(sock, tls))
    except OSError as error:
        raise UsageError(f"listen tcp {address}:{port}: {error.strerror or error}") from error
    return listeners


def _passed(tls: bool) -> list[Listener]:
    """Return the sockets that systemd passed (socket activation)."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or count == "0":
        raise UsageError("fd:// was given, but no sockets were passed: start the socket unit")
    listeners = []
    for number in range(FIRST_PASSED, FIRST_PASSED + int(count)):
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        remote = sock.family in (socket.AF_INET, socket.AF_INET6)
        listeners.append(Listener(sock, tls and remote))
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return listeners
