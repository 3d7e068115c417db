"""Our registry as a cache before docker-registry, with the clients of registries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.spec.image import MEDIA_DOCKER_MANIFEST
from tests.daemon import running
from tests.lying_registry import held_until, lying_registry, no_answer
from tests.registries import OURS, Registry, registry
from tests.remote_images import busybox, digest, image, index, layer, push, small_layer
from tests.session import eventually, scratch, unique
from tests.tokens import token_server
from tests.wire import Site

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = unique()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture(scope="module")
def upstream(namespace: str) -> Iterator[Registry]:
    with registry(namespace) as found:
        yield found


@pytest.fixture(scope="module")
def cache(namespace: str, upstream: Registry) -> Iterator[Registry]:
    with registry(namespace, program=OURS, mirror_of=upstream.url) as found:
        yield found


def run(namespace: str, *words: str | Path) -> str:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def fetched(upstream: Registry) -> list[str]:
    """Return what the upstream was asked for by GET, each request."""
    return [access.path for access in upstream.accesses("/v2/") if access.method == "GET"]


def test_skopeo_copies_through_the_cache_and_fetches_nothing_twice(
    namespace: str, upstream: Registry, cache: Registry, tmp_path: Path
) -> None:
    own = small_layer("skopeo")  # what others have pulled is there already
    shipped = index(
        image(own, architecture="amd64"), image(own, small_layer("x"), architecture="arm64")
    )
    push(upstream, "skopeo/app", "1", shipped)
    upstream.forget()
    source = f"docker://{cache.address}/skopeo/app:1"
    copy = ["skopeo", "copy", "--all", "--src-tls-verify=false", source]
    run(namespace, *copy, f"dir:{tmp_path}/one")
    assert digest((tmp_path / "one/manifest.json").read_bytes()) == shipped.digest
    # A registry says what it was asked for when it has answered.
    blobs = {blob.digest for one in shipped.images for blob in one.blobs}
    eventually(lambda: sum("/blobs/" in path for path in fetched(upstream)) >= len(blobs))
    first = [path for path in fetched(upstream) if path != "/v2/"]
    assert len(set(first)) == len(first)
    upstream.forget()
    run(namespace, *copy, f"dir:{tmp_path}/two")
    assert [path for path in fetched(upstream) if path != "/v2/"] == []
    listed = run(
        *(namespace, "skopeo", "list-tags", "--tls-verify=false"),
        f"docker://{cache.address}/skopeo/app",
    )
    assert json.loads(listed)["Tags"] == ["1"]


def test_podman_pulls_through_the_cache(
    namespace: str, upstream: Registry, cache: Registry
) -> None:
    push(upstream, "podman/app", "1", busybox(small_layer("note")))
    place = scratch()  # podman wants a short path
    podman = [
        *("podman", "--root", place / "root", "--runroot", place / "run"),
        *("--storage-driver", "vfs"),
    ]
    run(namespace, *podman, "pull", "--tls-verify=false", f"{cache.address}/podman/app:1")
    run(namespace, *podman, "rmi", "-af")
    shutil.rmtree(place)


def test_our_engine_pulls_through_the_cache_as_its_mirror() -> None:
    with (
        running("--registry-mirror=http://127.0.0.1:5000") as daemon,
        registry(daemon.namespace) as hub,
        registry(daemon.namespace, mirror_of=hub.url, port=5000, program=OURS) as cache,
    ):
        shipped = busybox(small_layer("mirrored"), Cmd=["true"])
        push(hub, "library/app", "1", index(shipped))

        def command(program: str, *words: str) -> None:
            enter = [*daemon.enter, daemon.programs[program]]
            subprocess.run([*enter, *words], env=daemon.environment, check=True, timeout=60)

        command("docker", "pull", "app:1")
        command("docker", "run", "--rm", "app:1")
        command("docker", "rmi", "app:1")
        assert any(access.method == "GET" for access in cache.accesses("/blobs/"))
        hub.kill()
        command("sampan", "pull", "app:1")
        command("sampan", "run", "--rm", "app:1")


def test_the_cache_logs_in_where_tokens_are_wanted(namespace: str, tmp_path: Path) -> None:
    with token_server(namespace) as tokens, registry(namespace, tokens=tokens) as hub:
        push(hub, "fleet/app", "1", busybox())
        login = {"username": "captain", "password": "secret"}
        with registry(
            namespace, program=OURS, mirror_of=hub.url, more={"proxy": login}, users={"me": "mine"}
        ) as cache:
            source = f"docker://{cache.address}/fleet/app:1"
            copy = ["skopeo", "copy", "--src-tls-verify=false", "--src-creds", "me:mine"]
            run(namespace, *copy, source, f"dir:{tmp_path}/out")
            assert "secret" not in cache.log


def test_a_cache_that_is_killed_while_it_fetches_begins_anew(
    namespace: str, tmp_path: Path
) -> None:
    rest = threading.Event()
    with lying_registry(namespace) as liar:
        shipped = image(layer(os.urandom(1 << 20), compression=""))
        push(liar, "app", "1", shipped)
        blob = shipped.layers[0]
        with registry(namespace, program=OURS, mirror_of=liar.url) as cache:
            liar.lie("GET", blob.digest, held_until(rest, 1 << 19), times=1)
            with cache.site.connect() as client:
                request = f"GET /v2/app/blobs/{blob.digest} HTTP/1.1\r\nHost: x\r\n\r\n"
                client.sendall(request.encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
                cache.kill()
            rest.set()
            cache.start()
            uploads = cache.storage / "docker/registry/v2/repositories/app/_uploads"
            assert not uploads.exists() or list(uploads.iterdir()) == []
            answer = cache.ask("GET", f"/v2/app/blobs/{blob.digest}")
            assert (answer.status, answer.body) == (200, blob.content)
            assert cache.ask("GET", "/v2/app/manifests/1").body == shipped.manifest.content
            cache.restart()
            liar.lie("", "", no_answer)
            assert cache.ask("GET", f"/v2/app/blobs/{blob.digest}").body == blob.content
            assert cache.ask("GET", "/v2/app/manifests/1").status == 200


def test_a_cache_of_docker_registry_goes_on_as_ours(namespace: str, upstream: Registry) -> None:
    push(upstream, "old/app", "1", busybox(small_layer("old")))
    with registry(namespace, mirror_of=upstream.url) as theirs:
        accept = {"Accept": MEDIA_DOCKER_MANIFEST}
        manifest = theirs.ask("GET", "/v2/old/app/manifests/1", headers=accept).json
        parts = [manifest["config"], *manifest["layers"]]
        for part in parts:
            assert theirs.ask("GET", f"/v2/old/app/blobs/{part['digest']}").status == 200
        links = "docker/registry/v2/repositories/old/app/_layers/sha256/*/link"
        digests = {part["digest"] for part in parts}
        eventually(lambda: {one.read_text() for one in theirs.storage.glob(links)} == digests)
        theirs.stop()
        with registry(
            namespace, program=OURS, mirror_of=upstream.url, storage=theirs.storage
        ) as ours:
            upstream.forget()
            assert ours.ask("GET", "/v2/old/app/manifests/1").status == 200
            for part in parts:
                assert ours.ask("GET", f"/v2/old/app/blobs/{part['digest']}").status == 200
            assert [path for path in fetched(upstream) if "blobs" in path] == []


def test_figures_of_the_cache_are_told(namespace: str, upstream: Registry) -> None:
    push(upstream, "told/app", "1", busybox())
    more = {"http": {"debug": {"addr": "127.0.0.1:5001", "prometheus": {"enabled": True}}}}
    with registry(namespace, program=OURS, mirror_of=upstream.url, more=more) as cache:
        cache.ask("GET", "/v2/told/app/manifests/1")
        text = Site(namespace, port=5001).ask("GET", "/metrics").body.decode()
        name = f'{{type="manifest",upstream="{upstream.address}"}}'
        assert f"registry_proxy_misses_total{name} 1.0" in text


def test_our_engine_has_a_mirror_for_each_registry_in_one_cache() -> None:
    here = scratch()
    here.chmod(0o755)
    settings = here / "daemon.json"
    one, two, cache = (f"http://127.0.0.1:{port}" for port in (5001, 5002, 5000))
    mirrors = {
        "127.0.0.1:5001": {"mirrors": [f"{cache}/one"]},
        "127.0.0.1:5002": {"mirrors": [f"{cache}/two"]},
    }
    settings.write_text(json.dumps({"registries": mirrors}))
    upstreams = [{"remoteurl": one, "prefix": "one"}, {"remoteurl": two, "prefix": "two"}]
    shared = busybox(small_layer("shared"))
    more = {"proxy": {"upstreams": upstreams}}
    with (
        running(f"--config-file={settings}") as daemon,
        registry(daemon.namespace, port=5001) as first,
        registry(daemon.namespace, port=5002) as second,
        registry(daemon.namespace, port=5000, program=OURS, more=more) as hub,
    ):

        def docker(*words: str) -> None:
            command = [*daemon.enter, daemon.programs["docker"], *words]
            subprocess.run(command, env=daemon.environment, check=True, timeout=60)

        for found in (first, second):
            push(found, "team/app", "1", shared)
            found.forget()
            docker("pull", f"{found.address}/team/app:1")
            docker("image", "prune", "-af")
        names = hub.ask("GET", "/v2/_catalog").json["repositories"]
        assert names == ["one/team/app", "two/team/app"]
        assert [access for access in second.accesses("/blobs/") if access.method == "GET"] == []
        push(hub, "mine/app", "1", shared)
        assert hub.tags("mine/app") == ["1"]
    shutil.rmtree(here)
