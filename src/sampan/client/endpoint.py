"""Where the daemon listens: -H, DOCKER_HOST, a context, TLS files, or the default socket."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

DEFAULT_HOST = "unix:///run/sampan/sampan.sock"
PLAIN_PORT, TLS_PORT = 2375, 2376  # the ports IANA registered for Docker


class TLS:
    """Files and rules of a TLS connection; an empty path means that file is not used."""

    def __init__(self, ca: str, certificate: str, key: str, verify: bool) -> None:
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.verify = verify

    def wrap(self, sock: socket.socket, name: str) -> socket.socket:
        """Return the socket after the handshake with the server called `name`."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.verify:
            if self.ca:
                context.load_verify_locations(self.ca)
            else:
                context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.key:
            context.load_cert_chain(self.certificate, self.key)
        return context.wrap_socket(sock, server_hostname=name)


class Endpoint:
    """An address of a daemon: a Unix socket's path, or a host and port with or without TLS."""

    def __init__(self, host: str, tls: TLS | None = None) -> None:
        """Parse `unix:///path`, `tcp://name:port`, `http(s)://name:port`.

        Raises InvalidArgument for anything else.
        """
        self.host = host
        self.path = ""
        self.name, self.port = "localhost", 0
        self.tls = tls
        scheme, separator, rest = host.partition("://")
        if not separator or not rest:
            raise InvalidArgument(f"unable to parse docker host `{host}`")
        if scheme == "unix":
            self.path = rest
            self.tls = None
        elif scheme in ("tcp", "http", "https"):
            self.name, self.port = _name_and_port(rest, host, tls is not None)
        else:
            raise InvalidArgument(f"protocol not available: {scheme} in {host}")

    def connect(self) -> socket.socket:
        """Open a connection. Raises OSError."""
        if self.path:
            return _unix_socket(self.path)
        import socket

        sock = socket.create_connection((self.name, self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return self.tls.wrap(sock, self.name) if self.tls else sock
        except OSError:
            sock.close()
            raise


def _unix_socket(path: str) -> socket.socket:
    # The C class below `socket`, whose import takes 4 ms for wrappers that nobody needs here.
    if TYPE_CHECKING:
        import socket
    else:
        import _socket as socket

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _name_and_port(rest: str, host: str, tls: bool) -> tuple[str, int]:
    address = rest.split("/", 1)[0]
    if address.startswith("["):
        name, _, port = address[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = address.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise InvalidArgument(f"invalid port in docker host `{host}`")
    return name or "127.0.0.1", int(port) if port else (TLS_PORT if tls else PLAIN_PORT)


def config_folder(environ: Mapping[str, str]) -> str:
    """Return the folder of config.json and of the contexts."""
    return environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def resolve(
    environ: Mapping[str, str],
    host: str = "",
    context: str = "",
    current_context: str = "",
    tls: TLS | None = None,
) -> Endpoint:
    """Find the daemon: `host`, else `context`, else DOCKER_HOST, else the current context.

    `tls` are the command line's TLS settings; without them DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
    count. Raises InvalidArgument, or NotFound for an unknown context.
    """
    if tls is None:
        tls = tls_of_environment(environ)
    if host:
        return Endpoint(_normal(host), tls)
    name = context or environ.get("DOCKER_CONTEXT", "")
    if not context and environ.get("DOCKER_HOST"):
        return Endpoint(_normal(environ["DOCKER_HOST"]), tls)
    name = name or current_context
    if name and name != "default":
        return context_endpoint(config_folder(environ), name)
    return Endpoint(DEFAULT_HOST, tls)


def _normal(host: str) -> str:
    host = host.strip()
    if "://" in host:
        return host
    return f"unix://{host}" if host.startswith("/") else f"tcp://{host}"


def tls_of_environment(environ: Mapping[str, str]) -> TLS | None:
    """Return the TLS settings of DOCKER_TLS, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    folder = environ.get("DOCKER_CERT_PATH") or config_folder(environ)
    return tls_of_folder(folder, verify)


def tls_of_folder(folder: str, verify: bool) -> TLS:
    """Return the settings of a folder with ca.pem, cert.pem and key.pem; each may be missing."""
    ca, certificate, key = (
        path if os.path.exists(path := os.path.join(folder, name)) else ""
        for name in ("ca.pem", "cert.pem", "key.pem")
    )
    return TLS(ca, certificate, key, verify)


def context_endpoint(folder: str, name: str) -> Endpoint:
    """Return the endpoint of a context stored by `docker context create` below `folder`."""
    import hashlib
    import json

    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        with open(os.path.join(folder, "contexts/meta", digest, "meta.json"), "rb") as file:
            document = json.load(file)
        docker = document["Endpoints"]["docker"]
        host = str(docker["Host"])
    except FileNotFoundError:
        raise NotFound(f'context "{name}": context not found: no such file or directory') from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f'context "{name}" cannot be read: {error}') from error
    files = os.path.join(folder, "contexts/tls", digest, "docker")
    if not os.path.isdir(files):
        return Endpoint(host)
    return Endpoint(host, tls_of_folder(files, verify=not docker.get("SkipTLSVerify")))
