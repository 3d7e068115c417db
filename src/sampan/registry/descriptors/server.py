"""Where a Redis is, and a client for it: one server, one that sentinels watch, or a cluster.

The rules by which the three are told apart, and the defaults, are go-redis's (UniversalOptions).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidArgument
from sampan.http.urls import redacted

if TYPE_CHECKING:
    from redis.retry import Retry

PORT, SENTINEL_PORT = 6379, 26379
ALIVE_SECONDS = 30  # an idle connection is tried after that long, before it is used


@dataclass(frozen=True)
class Tls:
    """How the server is verified, and who we are; paths of files."""

    certificate: str = ""
    key: str = ""
    authorities: Sequence[str] = ()  # beside those of the system


@dataclass(frozen=True)
class Server:
    """One or several addresses: `host:port`, or the path of a socket."""

    addresses: Sequence[str]
    database: int = 0
    username: str = ""
    password: str = ""
    master: str = ""  # what sentinels, whose addresses these are, call the server
    sentinel_username: str = ""
    sentinel_password: str = ""
    dial_seconds: float = 5.0
    answer_seconds: float = 3.0
    retries: int = 1
    retry_seconds: tuple[float, float] = (0.008, 0.512)  # before the first one; at most
    name: str = ""
    protocol: int = 2
    tls: Tls | None = None

    @property
    def place(self) -> str:
        """What tells this one from others: no secret is in it."""
        return f"{','.join(self.addresses)}/{self.master or self.database}"


def host_and_port(address: str, port: int = PORT) -> tuple[str, int]:
    """Return the parts of an address; raise ValueError."""
    host, colon, number = address.rpartition(":")
    if not colon or "]" in number:
        host, number = address, str(port)
    host = host or "localhost"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "/" in host:
        raise ValueError(f"{redacted(address)!r} is no host:port")
    if not number.isdecimal() or not 0 < int(number) < 1 << 16:
        raise ValueError(f"{redacted(address)!r} is no host:port")
    return host, int(number)


def connect(server: Server, life: ExitStack) -> Any:
    """Return a client of redis-py, which connects when it is used, and is closed with `life`.

    Raises InvalidArgument if redis-py is missing, or a file cannot be read; a client of a
    cluster asks it at once, and raises redis.RedisError.
    """
    try:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise InvalidArgument(
            f"redis: {error.name} is missing: install sampan[registry-redis]"
        ) from error
    low, high = server.retry_seconds
    options = _options(server, Retry(ExponentialBackoff(cap=high, base=low), server.retries))
    login = {**_login(server.username, server.password), "client_name": server.name or None}
    client: Any
    if server.master:
        client = _watched(server, options, {**login, "db": server.database}, life)
    elif len(server.addresses) > 1:
        from redis.cluster import ClusterNode, RedisCluster

        nodes = [ClusterNode(*host_and_port(address)) for address in server.addresses]
        client = RedisCluster(startup_nodes=nodes, **options, **login)
    elif server.addresses[0].startswith("/"):
        path = server.addresses[0]
        client = redis.Redis(unix_socket_path=path, db=server.database, **options, **login)
    else:
        host, port = host_and_port(server.addresses[0])
        client = redis.Redis(host=host, port=port, db=server.database, **options, **login)
    life.callback(client.close)
    return client


def look(server: Server) -> None:
    """Look whether redis-py and the files are there, and ask nobody; raise InvalidArgument."""
    with ExitStack() as life:  # a client of one server asks nobody until it is used
        connect(replace(server, addresses=server.addresses[:1]), life)


def _watched(
    server: Server, options: Mapping[str, Any], more: Mapping[str, Any], life: ExitStack
) -> Any:
    """Return a client of what sentinels say is the master."""
    from redis.sentinel import Sentinel

    asked = {**options, **_login(server.sentinel_username, server.sentinel_password)}
    places = [host_and_port(address, SENTINEL_PORT) for address in server.addresses]
    sentinel = Sentinel(places, sentinel_kwargs=asked)
    for one in sentinel.sentinels:
        life.callback(one.close)
    return sentinel.master_for(server.master, **options, **more)


def _login(username: str, password: str) -> dict[str, Any]:
    return {"username": username or None, "password": password or None}


def _options(server: Server, retry: Retry) -> Mapping[str, Any]:
    return {
        "socket_connect_timeout": server.dial_seconds,
        "socket_timeout": server.answer_seconds,
        "retry": retry,
        "protocol": server.protocol,
        "health_check_interval": ALIVE_SECONDS,
        **(_tls(server.tls) if server.tls else {}),
    }


def _tls(tls: Tls) -> Mapping[str, Any]:
    found: dict[str, Any] = {"ssl": True}
    context = ssl.create_default_context()
    path = tls.certificate
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
            found |= {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
        trusted = []
        for path in tls.authorities:
            trusted.append(Path(path).read_text("ascii"))
            context.load_verify_locations(cadata=trusted[-1])
    except (OSError, ValueError) as error:
        reason = "is not in PEM, or not of this key"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            reason = str(error.strerror)
        raise InvalidArgument(f"redis.tls: {path}: {reason}") from error
    if trusted:
        found["ssl_ca_data"] = "\n".join(trusted)
    return found


def runs(client: Any) -> str:
    """Return what changes when a server is started anew, or another one takes its place.

    Empty if we may not know. Raises redis.RedisError.
    """
    from redis.cluster import RedisCluster
    from redis.exceptions import NoPermissionError

    try:
        if not isinstance(client, RedisCluster):
            return str(client.info("server").get("run_id", ""))
        told = client.info("server", target_nodes=RedisCluster.PRIMARIES)
    except NoPermissionError:
        client.ping()
        return ""
    return ",".join(sorted(str(info.get("run_id", "")) for info in told.values()))
