"""Pull, push, login and search of a real daemon with real registries."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests import lying_registry as lies
from tests.daemon import Daemon, running
from tests.lying_registry import LyingRegistry
from tests.ordeals import storage_helpers
from tests.registries import OUTSIDE, Registry, registry
from tests.remote_images import Image, busybox, image, index, push, small_layer
from tests.scripted import Peer, ok, scripted
from tests.session import PATIENCE, eventually, scratch
from tests.tarballs import archive, file
from tests.tokens import token_server
from tests.wire import within

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

USERS = {"captain": "secret"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def hub(daemon: Daemon) -> Iterator[Registry]:
    with registry(daemon.namespace) as hub:
        yield hub


def lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def pull(daemon: Daemon, name: str, **query: str) -> list[Any]:
    text = "".join(f"&{key}={value}" for key, value in query.items())
    answer = daemon.request("POST", f"/images/create?fromImage={name}{text}")
    assert answer.status == 200, answer.body
    return lines(answer.body)


def cli(
    daemon: Daemon, *words: str, program: str = "docker", **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*daemon.enter, daemon.programs[program], *words],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,
    )


def remove_images(daemon: Daemon) -> None:
    for each in daemon.request("GET", "/images/json?all=1").json:
        daemon.request("DELETE", f"/images/{each['Id']}?force=1")


def check(daemon: Daemon) -> None:
    """Let the store account for everything."""
    report = daemon.request("GET", "/system/check").json
    assert report["Problems"] in ([], None), report


# --- plain -----------------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("program", ["docker", "sampan"])
def test_a_missing_image_is_pulled_and_run(daemon: Daemon, hub: Registry, program: str) -> None:
    remove_images(daemon)
    push(hub, "ships/box", "1", busybox(small_layer("cargo")))
    name = f"{hub.address}/ships/box:1"
    assert daemon.request("POST", "/containers/create", {"Image": name}).status == 404
    done = cli(daemon, "run", "--rm", "--network=none", name, "cat", "/cargo", program=program)
    assert (done.returncode, done.stdout) == (0, "cargo"), done.stderr
    assert f"Unable to find image '{name}' locally" in done.stderr
    assert f"Status: Downloaded newer image for {name}" in done.stderr


@pytest.mark.compat
def test_docker_py_pulls_pushes_and_inspects(daemon: Daemon, hub: Registry) -> None:
    remove_images(daemon)
    what = busybox(small_layer("py"))
    push(hub, "ships/py", "1", what)
    name = f"{hub.address}/ships/py"
    with contextlib.closing(docker.DockerClient(f"unix://{daemon.socket}")) as client:
        assert client.images.pull(name, tag="1").id == what.id
        found = client.images.get_registry_data(f"{name}:1")
        assert (found.id, found.has_platform("linux/amd64")) == (what.digest, True)
        client.images.get(f"{name}:1").tag(f"{hub.address}/copies/py", "2")
        told = list(client.images.push(f"{hub.address}/copies/py", "2", stream=True, decode=True))
        assert told[-1]["aux"]["Digest"] == what.digest
        assert [each.id for each in client.images.pull(name, all_tags=True)] == [what.id]
        with pytest.raises(docker.errors.NotFound):
            client.images.pull(name, tag="none")
    assert hub.tags("copies/py") == ["2"]


def test_the_stream_has_dockers_lines(daemon: Daemon, hub: Registry) -> None:
    remove_images(daemon)
    what = image(small_layer("stream", os.urandom(300_000)))
    push(hub, "ships/stream", "1", what)
    name = f"{hub.address}/ships/stream"
    said = pull(daemon, name, tag="1")
    short = what.layers[0].digest[7:19]
    assert said[0] == {"status": "Pulling from ships/stream", "id": "1"}
    assert said[1] == {"status": "Pulling fs layer", "progressDetail": {}, "id": short}
    steps = [line["status"] for line in said[1:-2]]
    assert list(dict.fromkeys(steps)) == [
        "Pulling fs layer",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
    ]
    size = len(what.layers[0].content)
    loading = next(line for line in said if line["status"] == "Downloading")
    assert set(loading) == {"status", "progressDetail", "progress", "id"}
    assert loading["progressDetail"]["total"] == size
    assert said[-2:] == [
        {"status": f"Digest: {what.digest}"},
        {"status": f"Status: Downloaded newer image for {name}:1"},
    ]


def test_events_tell_of_pull_and_push(daemon: Daemon, hub: Registry) -> None:
    push(hub, "ships/event", "1", image(small_layer("event"), Labels={"kind": "cargo"}))
    name, since = f"{hub.address}/ships/event", time.time()
    pull(daemon, name, tag="1")
    daemon.request("POST", f"/images/{name}/push?tag=1")
    told = daemon.request("GET", f"/events?since={since}&until={time.time()}").body
    found = [line for line in lines(told) if line["Type"] == "image"]
    assert [(each["Action"], each["Actor"]) for each in found] == [
        (
            action,
            {"ID": f"{name}:1", "Attributes": {"kind": "cargo", "name": name}},
        )
        for action in ("pull", "push")
    ]


@pytest.mark.compat
def test_images_of_ours_can_be_read_by_skopeo(daemon: Daemon, hub: Registry) -> None:
    tar = archive(file("f", os.urandom(3_000_000)))
    query = f"fromSrc=-&repo={hub.address}/own/img&tag=1"
    headers = {"Content-Type": "application/x-tar"}
    daemon.request("POST", f"/images/create?{query}", tar, headers)
    answer = daemon.request("POST", f"/images/{hub.address}/own/img/push?tag=1")
    assert b"errorDetail" not in answer.body, answer.body
    source = f"docker://{hub.address}/own/img:1"
    with folder() as here:
        copy = ["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{here}"]
        done = subprocess.run([*daemon.enter, *copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check(daemon)


def test_two_platforms_go_from_one_registry_to_another(daemon: Daemon, hub: Registry) -> None:
    remove_images(daemon)
    both = index(
        image(small_layer("amd")), image(small_layer("arm"), architecture="arm64"),
        attestations=True,
    )  # fmt: skip
    push(hub, "two/img", "1", both)
    name = f"{hub.address}/two/img"
    pull(daemon, name, tag="1")
    pull(daemon, name, tag="1", platform="linux/arm64")
    with registry(daemon.namespace) as other:
        daemon.request("POST", f"/images/{name}:1/tag?repo={other.address}/two/img&tag=1")
        said = lines(daemon.request("POST", f"/images/{other.address}/two/img/push?tag=1").body)
        # The attestations were not pulled, so the index cannot be whole.
        assert said[-1]["aux"]["manifestPushedInsteadOfIndex"] is True
        accept = {"Accept": both.images[0].manifest.media_type}
        found = other.ask("GET", "/v2/two/img/manifests/1", headers=accept)
        assert found.headers["Docker-Content-Digest"] == both.images[0].digest
    check(daemon)


def test_our_own_api_reads_and_writes_manifests(daemon: Daemon, hub: Registry) -> None:
    what = image(small_layer("raw"))
    push(hub, "raw/img", "1", what)
    name = f"{hub.address}/raw/img"
    found = daemon.request("GET", f"/distribution/{name}:1/manifests")
    assert (found.status, found.body) == (200, what.manifest.content)
    assert found.headers["Content-Type"] == what.manifest.media_type
    for blob in what.blobs:
        path = f"/distribution/{hub.address}/raw/copy/blobs?digest={blob.digest}&from={name}"
        assert daemon.request("POST", path).status == 201
    kind = {"Content-Type": what.manifest.media_type}
    path = f"/distribution/{hub.address}/raw/copy/manifests?tag=2"
    stored = daemon.request("PUT", path, what.manifest.content, kind)
    assert (stored.status, stored.headers["Docker-Content-Digest"]) == (201, what.digest)
    assert hub.tags("raw/copy") == ["2"]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("{}/no/img&tag=1", 404, "manifest for {}/no/img:1 not found: manifest unknown: manifest"),
        ("{}/no/img", 404, "repository {}/no/img not found: name unknown: repository name not"),
        ("127.0.0.1:1/a&tag=1", 500, "connect: connection refused"),
    ],
)
def test_what_is_not_there_is_told_as_docker_tells_it(
    daemon: Daemon, hub: Registry, path: str, status: int, sentence: str
) -> None:
    answer = daemon.request("POST", f"/images/create?fromImage={path.format(hub.address)}")
    assert answer.status == status
    assert sentence.format(hub.address) in answer.json["message"]


# --- credentials -----------------------------------------------------------------------------


@pytest.mark.compat
@pytest.mark.parametrize("kind", ["password", "token"])
def test_login_opens_what_is_closed(daemon: Daemon, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "token":
            tokens = stack.enter_context(token_server(daemon.namespace, USERS))
            closed = stack.enter_context(registry(daemon.namespace, tokens=tokens))
        else:
            closed = stack.enter_context(registry(daemon.namespace, users=USERS))
        push(closed, "secret/img", "1", image(small_layer(f"secret {kind}")))
        name = f"{closed.address}/secret/img:1"
        refused = cli(daemon, "pull", name)
        assert refused.returncode == 1
        assert "no basic auth credentials" in refused.stderr or "denied" in refused.stderr
        words = ("login", "--username=captain", "--password-stdin", closed.address)
        wrong = cli(daemon, *words, input="wrong")
        assert wrong.returncode == 1, wrong.stdout
        assert "401 Unauthorized" in wrong.stderr or "unauthorized: " in wrong.stderr
        right = cli(daemon, *words, input="secret")
        assert "Login Succeeded" in right.stdout
        assert cli(daemon, "pull", name).returncode == 0
        assert cli(daemon, "tag", name, f"{closed.address}/other/img:2").returncode == 0
        pushed = cli(daemon, "push", f"{closed.address}/other/img:2")
        assert pushed.returncode == 0, pushed.stderr
        assert closed.tags("other/img") == ["2"]
        cli(daemon, "logout", closed.address)
        refused = cli(daemon, "push", f"{closed.address}/other/img:2")
        assert refused.stderr.strip() in (
            "no basic auth credentials",
            "denied: requested access to the resource is denied",
        )


# --- search ----------------------------------------------------------------------------------


@pytest.mark.compat
def test_a_search_is_filtered_by_the_engine(daemon: Daemon) -> None:
    found = [
        {"name": f"box{stars}", "description": "a box", "star_count": stars,
         "is_official": stars > 2, "is_automated": stars == 1}
        for stars in range(5)
    ]  # fmt: skip

    def answer(peer: Peer) -> None:
        if peer.sock.recv(1, 2) == b"\x16":  # MSG_PEEK: a client that begins with TLS
            return
        while peer.head():
            peer.say(ok(json.dumps({"results": found}).encode()))

    with within(daemon.namespace), scripted(answer) as server:

        def names(*words: str) -> list[str]:
            words = ("search", "--format={{.Name}}", *words, f"{server.address}/box")
            return cli(daemon, *words).stdout.split()

        assert names() == ["box0", "box1", "box2", "box3", "box4"]
        assert names("--filter=stars=3") == ["box3", "box4"]
        assert names("--filter=is-official=true") == ["box3", "box4"]
        assert names("--filter=is-automated=true") == ["box1"]
        path = f"/images/search?term={server.address}/box"
        assert daemon.request("GET", f"{path}&limit=101").json == {
            "message": "limit 101 is outside the range of [1, 100]"
        }
        bad = daemon.request("GET", f'{path}&filters={{"is-official":["x"]}}')
        assert (bad.status, bad.json["message"]) == (400, "invalid filter 'is-official=[x]'")
        bad = daemon.request("GET", f'{path}&filters={{"stars":["x"]}}')
        assert (bad.status, bad.json["message"][:24]) == (400, "invalid filter 'stars=x'")


# --- the administrator's settings ------------------------------------------------------------


@contextlib.contextmanager
def configured(settings: dict[str, Any], *options: str) -> Iterator[tuple[Daemon, Path]]:
    """Run a daemon with a daemon.json."""
    with folder() as here:
        path = here / "daemon.json"
        path.write_text(json.dumps(settings))
        with running(f"--config-file={path}", *options) as daemon:
            yield daemon, path


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that everybody may read."""
    path = scratch()
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def reload(daemon: Daemon, path: Path, settings: dict[str, Any]) -> None:
    before = daemon.log.count("reloaded configuration")
    path.write_text(json.dumps(settings))
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.log.count("reloaded configuration") > before)


def test_every_registry_may_have_a_mirror_and_a_reload_sets_it() -> None:
    with (
        configured({}) as (daemon, path),
        registry(daemon.namespace) as hub,
        registry(daemon.namespace, mirror_of=hub.url) as mirror,
    ):
        push(hub, "a/img", "1", image(small_layer("mirrored")))
        name = f"{hub.address}/a/img"
        entry = {"mirrors": [mirror.url]}
        reload(daemon, path, {"registries": {hub.address: entry}, "max-concurrent-downloads": 1})
        hub.forget()
        pull(daemon, name, tag="1")
        eventually(lambda: any(it.method == "GET" for it in mirror.accesses("/blobs/")))
        shown = daemon.request("GET", "/info").json["RegistryConfig"]
        assert shown["IndexConfigs"][hub.address]["Mirrors"] == [f"{mirror.url}/"]
        mirror.kill()
        push(hub, "a/img", "2", image(small_layer("not mirrored")))
        pull(daemon, name, tag="2")


def test_what_info_says_of_registries_and_proxies() -> None:
    settings = {
        "insecure-registries": ["10.0.0.0/8", "old.example:5000"],
        "registry-mirrors": ["https://hub.example"],
        "registries": {"a.example": {"mirrors": ["https://m.example"], "insecure": True}},
        "proxies": {"http-proxy": "http://user:secret@proxy.example:3128", "no-proxy": "a,b"},
    }
    with configured(settings) as (daemon, _):
        info = daemon.request("GET", "/info").json
        assert info["IndexServerAddress"] == "https://index.docker.io/v1/"
        assert info["HttpProxy"] == "http://xxxxx:xxxxx@proxy.example:3128"
        assert info["NoProxy"] == "a,b"
        found = info["RegistryConfig"]
        assert found["Mirrors"] == ["https://hub.example/"]
        assert found["InsecureRegistryCIDRs"] == ["10.0.0.0/8", "::1/128", "127.0.0.0/8"]
        assert {name: each["Secure"] for name, each in found["IndexConfigs"].items()} == {
            "a.example": False,
            "old.example:5000": False,
            "docker.io": True,
        }
        assert "secret" not in daemon.log


def test_certificates_are_read_when_they_are_needed_and_keys_of_root_at_a_reload() -> None:
    with (
        folder() as certs,
        configured({}, f"--registry-certs={certs}") as (daemon, path),
        registry(daemon.namespace, host=OUTSIDE, tls=True, client_ca=True) as closed,
    ):
        assert closed.authority
        push(closed, "a/img", "1", image(small_layer("certified")))
        ask = f"/images/create?fromImage={closed.address}/a/img&tag=1"
        answer = daemon.request("POST", ask)
        assert answer.status == 500
        assert "certificate signed by unknown authority" in answer.json["message"]
        own = certs / closed.address
        own.mkdir(mode=0o755)
        (own / "ca.crt").write_bytes(closed.authority.certificate)
        answer = daemon.request("POST", ask)
        assert b"certificate" in answer.body  # trusted now, but the registry wants to see ours
        assert b"unknown authority" not in answer.body
        certificate, key = closed.authority.client()
        (own / "client.cert").write_bytes(certificate)
        (own / "client.key").touch(0o600)
        (own / "client.key").write_bytes(key)
        reload(daemon, path, {"debug": True})
        answer = daemon.request("POST", ask)
        assert b"Downloaded newer image" in answer.body, answer.body
        copies = daemon.folder / "exec" / "certs.d"
        (copy,) = copies.glob("*/client.key")
        assert copies.stat().st_mode & 0o077 == copy.stat().st_mode & 0o377 == 0


# --- bad days --------------------------------------------------------------------------------


def large() -> Image:
    return image(*(small_layer(f"layer{n}", os.urandom(400_000)) for n in range(4)))


def test_a_client_that_leaves_ends_its_pull_at_once(daemon: Daemon) -> None:
    with lies.lying_registry(daemon.namespace) as liar:
        what = large()
        push(liar, "a/img", "1", what)
        go = threading.Event()
        liar.lie("GET", what.layers[-1].digest, lies.held_until(go, 1000))
        before = daemon.request("GET", "/images/json").json
        with contextlib.closing(daemon.connect()) as client:
            path = f"/images/create?fromImage={liar.address}/a/img&tag=1"
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            seen = b""
            while seen.count(b"Pull complete") < 3:
                seen += (data := client.recv(1 << 16))
                assert data
        eventually(lambda: not staged(daemon))
        assert daemon.request("GET", "/images/json").json == before
        go.set()
        liar.be_honest()
        liar.log.clear()
        pull(daemon, f"{liar.address}/a/img", tag="1")
        assert liar.log.count("GET", "/blobs/") == 2  # the configuration and the last layer
    check(daemon)


def staged(daemon: Daemon) -> list[str]:
    """Return what is half unpacked."""
    folder = daemon.data_root / "snapshots"
    return [str(path) for path in folder.glob("*/.new/*")]


@pytest.mark.parametrize("complete", [0, 1, 3])
def test_a_daemon_that_is_killed_goes_on_with_the_next_pull(complete: int) -> None:
    what = large()
    with running() as daemon, lies.lying_registry(daemon.namespace) as liar:
        push(liar, "a/img", "1", what)
        go = threading.Event()
        for late in what.layers[complete:]:
            liar.lie("GET", late.digest, lies.held_until(go, 1000))
        client = threading.Thread(target=quietly_pull, args=(daemon, liar))
        client.start()
        wanted = min(4 - complete, 3)
        for layer in what.layers[complete : complete + wanted]:
            eventually(lambda digest=layer.digest: liar.log.count("GET", digest))  # type: ignore[misc]
        eventually(lambda: committed(daemon) == complete)
        daemon.kill()
        go.set()
        client.join()
        liar.be_honest()
        liar.log.clear()
        daemon.start()
        assert daemon.request("GET", "/images/json").json == []
        check(daemon)
        pull(daemon, f"{liar.address}/a/img", tag="1")
        fetched = sum(liar.log.count("GET", each.digest) for each in what.layers)
        assert fetched == 4 - complete
        check(daemon)


def committed(daemon: Daemon) -> int:
    report = daemon.request("GET", "/system/check").json
    return int(report["Checked"]["Layers"])


def quietly_pull(daemon: Daemon, liar: LyingRegistry) -> None:
    with contextlib.suppress(Exception):
        pull(daemon, f"{liar.address}/a/img", tag="1")


def test_a_storage_helper_that_is_killed_ends_the_pull_and_the_next_one_succeeds() -> None:
    what = large()
    with running() as daemon, lies.lying_registry(daemon.namespace) as liar:
        push(liar, "a/img", "1", what)
        go = threading.Event()
        liar.lie("GET", what.layers[-1].digest, lies.held_until(go, 1000))
        said: list[Any] = []
        client = threading.Thread(
            target=lambda: said.extend(pull(daemon, f"{liar.address}/a/img", tag="1"))
        )
        client.start()
        eventually(lambda: committed(daemon) == 3)
        for pid in storage_helpers(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        client.join(PATIENCE)
        assert "helper" in said[-1]["error"]
        go.set()
        liar.be_honest()
        liar.log.clear()
        pull(daemon, f"{liar.address}/a/img", tag="1")
        assert liar.log.count("GET", "/blobs/") == 2
        check(daemon)


@pytest.mark.parametrize("lie", [lies.corrupt, lies.longer, lies.endless, lies.broken_off])
def test_a_registry_that_lies_gets_one_clear_error(daemon: Daemon, lie: lies.Lie) -> None:
    with lies.lying_registry(daemon.namespace) as liar:
        what = image(small_layer("lie", os.urandom(200_000)))
        push(liar, "a/img", "1", what)
        liar.lie("GET", what.layers[0].digest, lie)
        said = pull(daemon, f"{liar.address}/a/img", tag="1")
        assert said[-1]["errorDetail"]["message"] == said[-1]["error"]
        assert "\n" not in said[-1]["error"]
        found = daemon.request("GET", "/images/json").json
        assert not any(liar.address in str(each["RepoTags"]) for each in found)
        eventually(lambda: staged(daemon) == [])
    check(daemon)


def test_a_full_disk_is_said_and_leaves_nothing_half() -> None:
    with running(data_size="24m") as daemon, registry(daemon.namespace) as hub:
        push(
            hub, "a/img", "1", image(*(small_layer(str(n), os.urandom(9 << 20)) for n in (1, 2, 3)))
        )
        said = pull(daemon, f"{hub.address}/a/img", tag="1")
        assert "no space left on device" in said[-1]["error"]
        assert daemon.request("GET", "/images/json").json == []
        eventually(lambda: staged(daemon) == [])


@pytest.mark.parametrize("driver", ["vfs"])
def test_layers_that_need_their_parents_are_pulled_and_pushed(driver: str) -> None:
    with running(f"--storage-driver={driver}") as daemon, registry(daemon.namespace) as hub:
        what = busybox(small_layer("one"), small_layer("two"), small_layer("one"))
        push(hub, "a/img", "1", what)
        name = f"{hub.address}/a/img:1"
        pull(daemon, name)
        made = cli(daemon, "run", "--rm", "--network=none", name, "cat", "/one", "/two")
        assert made.stdout == "onetwo", made.stderr
        daemon.request("POST", f"/images/{name}/tag?repo={hub.address}/b/img&tag=1")
        said = lines(daemon.request("POST", f"/images/{hub.address}/b/img/push?tag=1").body)
        assert said[-1]["aux"]["Digest"] == what.digest
