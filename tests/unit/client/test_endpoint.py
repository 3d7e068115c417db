"""Where the daemon is found."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from pathlib import Path

import pytest
import trustme

from sampan.client.api import Client
from sampan.client.endpoint import DEFAULT_HOST, TLS, Endpoint, resolve
from sampan.errors import InvalidArgument, NotFound, Unavailable
from tests.unit.client.server import answer


@pytest.mark.parametrize(
    ("host", "path", "name", "port"),
    [
        ("unix:///run/x.sock", "/run/x.sock", "localhost", 0),
        ("tcp://host:1234", "", "host", 1234),
        ("tcp://host", "", "host", 2375),
        ("tcp://[::1]:99", "", "::1", 99),
        ("http://host:1/path", "", "host", 1),
        ("tcp://:5", "", "127.0.0.1", 5),
    ],
)
def test_an_address_is_read(host: str, path: str, name: str, port: int) -> None:
    endpoint = Endpoint(host)
    assert (endpoint.path, endpoint.name, endpoint.port) == (path, name, port)


@pytest.mark.parametrize("host", ["", "x", "unix://", "ftp://x", "tcp://x:port", "tcp://x:70000"])
def test_a_wrong_address_is_refused(host: str) -> None:
    with pytest.raises(InvalidArgument):
        Endpoint(host)


def test_a_host_wins_over_contexts_and_the_environment() -> None:
    environment = {"DOCKER_HOST": "tcp://b:1", "DOCKER_CONTEXT": "c"}
    assert resolve(environment, host="tcp://a:1").name == "a"
    assert resolve(environment).name == "b"
    assert resolve({}).host == DEFAULT_HOST
    assert resolve({}, host="/run/x").path == "/run/x"


def context(folder: Path, name: str, host: str) -> None:
    place = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    place.mkdir(parents=True)
    document = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (place / "meta.json").write_text(json.dumps(document))


def test_a_context_names_a_host(tmp_path: Path) -> None:
    context(tmp_path, "far", "tcp://far:1")
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    assert resolve(environment, context="far").name == "far"
    assert resolve(environment, current_context="far").name == "far"
    assert resolve({**environment, "DOCKER_CONTEXT": "far"}).name == "far"
    with pytest.raises(NotFound, match='context "none"'):
        resolve(environment, context="none")


def test_tls_is_used_if_the_environment_says_so(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    found = resolve(
        {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_HOST": "tcp://x"}
    )
    assert found.tls is not None
    assert (found.tls.verify, found.tls.ca, found.port) == (True, str(tmp_path / "ca.pem"), 2376)
    assert found.tls.certificate == ""


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serve_once(
    authority: trustme.CA, context_name: str = "localhost"
) -> tuple[str, threading.Thread]:
    import ssl

    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(context_name).configure_cert(server_context)
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
        with connection:
            try:
                with server_context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(answer(b'{"ApiVersion":"1.51"}'))
            except OSError:
                pass  # the client did not like us, or we did not like it

    thread = threading.Thread(target=serve)
    thread.start()
    return f"tcp://localhost:{port}", thread


def test_both_sides_show_certificates(authority: trustme.CA, tmp_path: Path) -> None:
    host, thread = serve_once(authority)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("client@example.com")
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    with Client(Endpoint(host, TLS(*files, verify=True))) as client:
        assert client.system.version()["ApiVersion"] == "1.51"
    thread.join(10)


def test_a_server_of_another_authority_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    host, thread = serve_once(authority)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Client(Endpoint(host, TLS(str(tmp_path / "ca.pem"), "", "", verify=True))) as client:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            client.system.version()
    thread.join(10)
