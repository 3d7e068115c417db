"""Our registry with the clients of docker-registry, and in its place on its data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import h2.connection
import h2.events
import pytest
import trustme

from tests.daemon import running
from tests.registries import DOCKERS, OURS, OUTSIDE, THIRD, Registry, registry
from tests.remote_images import (
    busybox,
    demand_whole,
    digest,
    image,
    index,
    layer,
    push,
    small_layer,
)
from tests.session import PATIENCE, eventually, scratch
from tests.tokens import token_server
from tests.wire import Site, within

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret"}


@pytest.fixture(scope="module")
def hub(namespace: str) -> Iterator[Registry]:
    with registry(namespace, program=OURS) as found:
        yield found


def run(namespace: str, *words: str | Path, status: int = 0) -> str:
    enter = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    done = subprocess.run(
        [*enter, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_skopeo_copies_there_and_back(namespace: str, hub: Registry, tmp_path: Path) -> None:
    there = f"docker://{hub.address}/skopeo/app"
    shipped = index(busybox(architecture="amd64"), busybox(small_layer("x"), architecture="arm64"))
    push(hub, "skopeo/source", "1", shipped)
    source = f"docker://{hub.address}/skopeo/source:1"
    flags = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
    run(namespace, "skopeo", "copy", *flags, source, f"{there}:1")
    run(namespace, "skopeo", "copy", *flags[:2], f"{there}:1", f"dir:{tmp_path}/out")
    assert digest((tmp_path / "out/manifest.json").read_bytes()) == shipped.digest
    listed = json.loads(run(namespace, "skopeo", "list-tags", "--tls-verify=false", there))
    assert listed["Tags"] == ["1"]
    run(namespace, "skopeo", "delete", "--tls-verify=false", f"{there}:1")
    assert hub.tags("skopeo/app") == []


def test_podman_pushes_and_pulls(namespace: str, hub: Registry) -> None:
    push(hub, "podman/app", "1", busybox(small_layer("note")))
    place = scratch()  # podman wants a short path
    podman = [
        *("podman", "--root", place / "root", "--runroot", place / "run"),
        *("--storage-driver", "vfs"),
    ]
    name = f"{hub.address}/podman/app"
    run(namespace, *podman, "pull", "--tls-verify=false", f"{name}:1")
    run(namespace, *podman, "tag", f"{name}:1", f"{name}:2")
    run(namespace, *podman, "push", "--tls-verify=false", f"{name}:2")
    assert hub.tags("podman/app") == ["1", "2"]
    run(namespace, *podman, "rmi", "-af")
    run(namespace, *podman, "pull", "--tls-verify=false", f"{name}:2")
    found = run(namespace, *podman, "search", "--tls-verify=false", f"{hub.address}/podman")
    assert name in found
    run(namespace, *podman, "rmi", "-af")
    shutil.rmtree(place)


def test_docker_pushes_and_pulls_through_our_engine() -> None:
    with running() as daemon, registry(daemon.namespace, program=OURS) as hub:
        push(hub, "docker/app", "1", busybox(small_layer("note"), Cmd=["true"]))

        def docker(*words: str) -> None:
            command = [*daemon.enter, daemon.programs["docker"], *words]
            subprocess.run(command, env=daemon.environment, check=True, timeout=60)

        name = f"{hub.address}/docker/app"
        docker("pull", f"{name}:1")
        docker("tag", f"{name}:1", f"{name}:2")
        docker("tag", f"{name}:1", f"{hub.address}/docker/other:1")
        docker("push", f"{name}:2")
        docker("push", f"{hub.address}/docker/other:1")
        docker("rmi", f"{name}:1", f"{name}:2", f"{hub.address}/docker/other:1")
        docker("run", "--rm", f"{name}:2")
        docker("rmi", f"{name}:2")
        assert hub.tags("docker/app") == ["1", "2"]
        command = [*daemon.enter, daemon.programs["docker"], "search", f"{hub.address}/app"]
        found = subprocess.run(
            command, env=daemon.environment, check=True, capture_output=True, text=True, timeout=60
        )
        assert [line.split()[0] for line in found.stdout.splitlines()] == ["NAME", "docker/app"]
        assert hub.tags("docker/other") == ["1"]


def test_clients_log_in_with_tls_and_passwords(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True, users=USERS, program=OURS) as hub:
        push(hub, "secret/app", "1", busybox())
        assert hub.authority
        (tmp_path / "ca.crt").write_bytes(hub.authority.certificate)
        name = f"docker://{hub.address}/secret/app:1"
        inspect = ["skopeo", "inspect", "--cert-dir", tmp_path]
        found = json.loads(run(namespace, *inspect, "--creds", "captain:secret", name))
        assert found["Name"] == f"{hub.address}/secret/app"
        for wrong in (["--no-creds"], ["--creds", "captain:wrong"], ["--creds", "x:secret"]):
            refused = run(namespace, *inspect, *wrong, name, status=1)
            assert "unauthorized" in refused or "authentication required" in refused
        assert "certificate" in run(namespace, "skopeo", "inspect", name, status=1)


@pytest.mark.parametrize("tls", [False, True])
def test_clients_of_ipv4_are_called_so_on_a_socket_of_both(
    namespace: str, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", ":0")
    with registry(namespace, tls=tls, program=OURS) as hub:
        assert "listening on [::]:" in hub.log
        assert hub.ask("GET", "/v2/nowhere/tags/list").status == 404
        eventually(lambda: re.search(r"^127\.0\.0\.1 - .*/v2/nowhere/", hub.log, re.MULTILINE))


def test_http_2_is_spoken_where_there_is_tls(namespace: str, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "blob").write_bytes(content)
    with registry(namespace, host=OUTSIDE, tls=True, program=OURS) as hub:
        curl = ["curl", "-sk", "--fail", "--http2", "-w", "%{http_version}\n"]
        begun = hub.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
        target = f"{begun}?digest={digest(content)}"
        found = run(namespace, *curl, "-T", tmp_path / "blob", target)
        assert found == "2\n"
        source = f"{hub.url}/v2/a/blobs/{digest(content)}"
        assert run(namespace, *curl, "-o", tmp_path / "out", source) == "2\n"
        assert (tmp_path / "out").read_bytes() == content
        assert run(namespace, *curl, "-r", "5-9", "-o", tmp_path / "part", source) == "2\n"
        assert (tmp_path / "part").read_bytes() == content[5:10]
        for path in (f"/v2/a/blobs/{digest(content)}", "/v2/a/manifests/none", "/v2/_catalog"):
            assert _data_of_head(hub, path) == b""


def _data_of_head(hub: Registry, path: str) -> bytes:
    """Return the body of an answer to HEAD over HTTP/2, which must have none (RFC 9113, 8.1.1)."""
    assert hub.site.context
    hub.site.context.set_alpn_protocols(["h2"])
    client = h2.connection.H2Connection()
    client.initiate_connection()
    head = {":method": "HEAD", ":path": path, ":scheme": "https", ":authority": hub.address}
    client.send_headers(1, list(head.items()), end_stream=True)
    data = b""
    with hub.site.connect() as sock:
        sock.sendall(client.data_to_send())
        while piece := sock.recv(65536):
            for event in client.receive_data(piece):
                if isinstance(event, h2.events.DataReceived):
                    data += event.data
                if isinstance(event, h2.events.StreamEnded):
                    return data
            sock.sendall(client.data_to_send())
    raise AssertionError("the answer has no end")


def test_tokens_open_what_they_grant(namespace: str) -> None:
    with (
        token_server(namespace, USERS) as server,
        registry(namespace, tokens=server, program=OURS) as hub,
    ):
        push(hub, "secret/app", "1", busybox())
        push(hub, "public/app", "1", busybox())
        inspect = ["skopeo", "inspect", "--tls-verify=false"]
        secret, public = (f"docker://{hub.address}/{name}/app:1" for name in ("secret", "public"))
        run(namespace, *inspect, "--creds", "captain:secret", secret)
        run(namespace, *inspect, "--no-creds", public)
        run(namespace, *inspect, "--no-creds", secret, status=1)
        answer = hub.site.ask("GET", "/v2/secret/app/tags/list")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].endswith('scope="repository:secret/app:pull"')


def test_a_client_without_a_certificate_is_not_heard(namespace: str) -> None:
    with registry(namespace, host=OUTSIDE, tls=True, client_ca=True, program=OURS) as hub:
        assert hub.ask("GET", "/v2/").status == 200
        assert hub.authority
        hub.site.context = hub.authority.context()  # trusts the registry, shows nothing
        with pytest.raises(OSError, match=r"certificate|reset|closed"):
            hub.site.ask("GET", "/v2/")


@pytest.mark.parametrize("program", [*DOCKERS[1:], pytest.param(OURS, id="ours")])
@pytest.mark.parametrize(
    ("kind", "without", "foreign"),
    [
        ("require-and-verify-client-cert", False, False),
        ("verify-client-cert-if-given", True, False),
        ("request-client-cert", True, True),
        ("require-any-client-cert", False, True),
    ],
)
def test_certificates_of_clients_are_wanted_as_configured(
    namespace: str, program: tuple[str, ...], kind: str, without: bool, foreign: bool
) -> None:
    with registry(
        namespace, host=OUTSIDE, tls=True, client_ca=True, client_auth=kind, program=program
    ) as hub:
        assert hub.ask("GET", "/v2/").status == 200
        assert hub.authority

        def is_heard(authority: trustme.CA | None) -> bool:
            assert hub.authority
            hub.site.context = hub.authority.context()
            if authority:
                authority.issue_cert("test@example.com").configure_cert(hub.site.context)
            try:
                return hub.site.ask("GET", "/v2/").status == 200
            except OSError:
                return False

        assert is_heard(None) == without
        assert is_heard(trustme.CA()) == foreign
        assert is_heard(hub.authority.ca)


@pytest.mark.parametrize("kind", ["", "request-client-cert"])  # each has a server of its own
def test_certificates_are_read_anew_at_sighup(namespace: str, kind: str) -> None:
    with registry(
        namespace, host=OUTSIDE, tls=True, client_ca=True, client_auth=kind, program=OURS
    ) as hub:
        assert hub.authority
        assert hub.process

        def serial() -> int:
            with hub.site.connect() as sock:
                return int(sock.getpeercert()["serialNumber"], 16)  # type: ignore[attr-defined]

        first = serial()
        renewed = hub.authority.ca.issue_cert(OUTSIDE)
        chain = b"".join(pem.bytes() for pem in renewed.cert_chain_pems)
        (hub.folder / "server.pem").write_bytes(chain)
        (hub.folder / "server.key").write_bytes(renewed.private_key_pem.bytes())
        hub.process.send_signal(signal.SIGHUP)

        def is_another() -> bool:
            try:
                return serial() != first
            except ConnectionError:  # a handshake in just that moment is broken off
                return False

        eventually(is_another)


@pytest.mark.parametrize("kind", ["", "request-client-cert"])
def test_who_is_in_the_middle_when_certificates_are_read_anew_gets_the_rest(
    namespace: str, kind: str
) -> None:
    with registry(
        namespace, host=OUTSIDE, tls=True, client_ca=True, client_auth=kind, program=OURS
    ) as hub:
        large = layer(os.urandom(24 << 20), compression="")
        push(hub, "app", "1", image(large))
        assert hub.process
        request = (
            f"GET /v2/app/blobs/{large.digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        with hub.site.connect() as client:
            client.sendall(request.encode())
            head, _, begun = client.recv(65536).partition(b"\r\n\r\n")
            received = bytearray(begun)
            assert head.startswith(b"HTTP/1.1 200")
            for _ in range(3):
                before = hub.log.count("read anew")
                hub.process.send_signal(signal.SIGHUP)
                eventually(lambda: hub.log.count("read anew") > before)  # noqa: B023
            while piece := client.recv(1 << 20):
                received += piece
        assert digest(bytes(received)) == large.digest
        assert hub.ask("GET", "/v2/").status == 200


@pytest.mark.parametrize("kind", ["", "request-client-cert"])
def test_no_key_is_left_behind_by_a_registry_that_is_killed(
    namespace: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with registry(
        namespace, host=OUTSIDE, tls=True, client_ca=True, client_auth=kind, program=OURS
    ) as hub:
        assert hub.ask("GET", "/v2/").status == 200
        hub.kill()
        assert [path for path in tmp_path.rglob("*") if path.suffix in (".key", ".pem")] == []
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", [*DOCKERS, pytest.param(OURS, id="ours")])
def test_openssl_and_curl_find_the_suites_that_are_listed(
    namespace: str, program: tuple[str, ...]
) -> None:
    cbc = ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA")
    listed = cbc if program != THIRD else cbc[1:]  # which knows no CBC with SHA-256
    with registry(namespace, host=OUTSIDE, tls=True, ciphers=listed, program=program) as hub:
        assert hub.authority
        authority = hub.folder / "authority.pem"
        authority.write_bytes(hub.authority.certificate)

        def spoken(*options: str) -> str:
            line = ["openssl", "s_client", "-connect", hub.address, "-CAfile", str(authority)]
            with within(namespace):
                said = subprocess.run(
                    [*line, "-verify_return_error", "-brief", *options],
                    input="",
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
            found = re.search(r"Ciphersuite: (\S+)", said.stderr)
            return found[1] if found and not said.returncode else ""

        of_12 = ("-tls1_2", "-cipher")
        assert spoken(*of_12, "ECDHE-ECDSA-AES256-SHA") == "ECDHE-ECDSA-AES256-SHA"
        wanted = "ECDHE-ECDSA-AES128-SHA256" if program != THIRD else ""
        assert spoken(*of_12, "ECDHE-ECDSA-AES128-SHA256") == wanted
        assert spoken(*of_12, "ECDHE-ECDSA-AES128-GCM-SHA256") == ""
        assert spoken("-tls1_3").startswith("TLS_")
        curl = ["curl", "-sS", "--cacert", str(authority), "-o", "/dev/null", "-w"]
        url = f"https://{hub.address}/v2/"
        what = ["%{http_code} %{http_version}", "--tls-max", "1.2", "--http1.1", url]
        assert run(namespace, *curl, *what) == "200 1.1"


@pytest.mark.parametrize("quiet", [False, True])
def test_logs_are_written_as_configured(namespace: str, quiet: bool) -> None:
    log = {
        "formatter": "json",
        "level": "debug",
        "fields": {"service": "registry", "environment": "staging"},
        "accesslog": {"disabled": quiet},
    }
    with registry(namespace, program=OURS, more={"log": log}) as hub:
        assert hub.ask("GET", "/v2/").status == 200
        hub.stop()
        lines = hub.log.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert {(one["service"], one["environment"]) for one in told} == {("registry", "staging")}
    assert any(one["msg"].startswith("listening on") for one in told)
    others = [line for line in lines if not line.startswith("{")]
    assert ['"GET /v2/ HTTP/1.1" 200' in line for line in others] == ([] if quiet else [True])


def test_administrators_see_health_and_figures(namespace: str, tmp_path: Path) -> None:
    down = tmp_path / "down"
    more = {
        "http": {"debug": {"addr": "127.0.0.1:0", "prometheus": {"enabled": True}}},
        "health": {
            "storagedriver": {"enabled": True, "interval": "10ms", "threshold": 3},
            "file": [{"file": str(down), "interval": "10ms"}],
        },
    }
    with registry(namespace, program=OURS, more=more) as hub:
        port = re.search(r"debug server listening 127\.0\.0\.1:(\d+)", hub.log)
        assert port
        debug = Site(namespace, port=int(port[1]))
        assert (debug.ask("GET", "/debug/health").status, hub.ask("GET", "/v2/").status) == (
            *(200, 200),
        )
        down.touch()
        eventually(lambda: hub.ask("GET", "/v2/").status == 503)
        assert debug.ask("GET", "/debug/health").json == {str(down): "file exists"}
        down.unlink()
        eventually(lambda: hub.ask("GET", "/v2/").status == 200)
        debug.ask("POST", "/debug/health/down")
        assert hub.ask("GET", "/v2/").json["errors"][0]["code"] == "UNAVAILABLE"
        debug.ask("POST", "/debug/health/up")
        assert hub.ask("GET", "/v2/").status == 200
        assert b'registry_http_requests_total{code="503"' in debug.ask("GET", "/metrics").body
        assert debug.ask("GET", "/debug/vars").json["cmdline"][-2] == "serve"
        assert debug.ask("GET", "/nowhere").status == 404


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.3])
def test_nothing_is_lost_when_it_is_killed(namespace: str, moment: float) -> None:
    # Whatever the moment: what was acknowledged is there, and what is there is whole.
    acknowledged: dict[str, str] = {}
    with registry(namespace, program=OURS) as hub:
        pid = hub.process.pid if hub.process else 0
        killer = subprocess.Popen(["sh", "-c", f"sleep {moment}; kill -9 {pid}"])
        try:
            for number in range(200):
                item = image(small_layer(f"{number}"))
                push(hub, "team/app", f"{number}", item)
                acknowledged[f"{number}"] = item.digest
        except (OSError, HTTPException):
            pass
        killer.wait()
        hub.restart()
        tags = hub.tags("team/app")
        assert set(acknowledged) <= set(tags)
        for tag in tags:
            wanted = acknowledged.get(tag) or image(small_layer(tag)).digest
            demand_whole(hub, "team/app", tag, wanted)


def test_the_program_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"

    def ask(text: str, command: str = "verify", **more: str) -> tuple[int, str]:
        path.write_text(text)
        done = subprocess.run(
            [*OURS, command, str(path)],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    good = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
    assert ask(good) == (0, f"{path}: ok\n")
    command = [sys.executable, "-m", "sampan", "registry", "verify", str(path)]
    assert subprocess.check_output(command, text=True, timeout=60) == f"{path}: ok\n"
    assert ask(good + "lgo: {}\n") == (1, f"{path}: lgo: is not known (did you mean log?)\n")
    for command in ("verify", "serve"):
        status, text = ask("version: 0.1\nstorage: {s3: {bucket: x}}\n", command)
        assert status == 1
        assert "storage.s3.region: is required" in text
    status, text = ask(good, "garbage-collect")
    assert status == 0
    assert "0 blobs and 0 manifests eligible for deletion, 0 bytes" in text.splitlines()
    bad: Callable[[str], tuple[int, str]] = lambda more: ask(good + more, "serve")  # noqa: E731
    assert "http.tls: " in bad("http: {tls: {certificate: /none, key: /none}}\n")[1]
