"""Images go round: we, skopeo, podman, the docker CLI and docker-py, through real registries."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.daemon import Daemon, running
from tests.registries import Registry, registry
from tests.remote_images import (
    FOREIGN,
    Image,
    busybox,
    image,
    index,
    layer,
    push,
    small_layer,
)
from tests.tokens import token_server

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]

USERS = {"captain": "secret"}
Run = Callable[..., str]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with one image that no registry knows."""
    with running() as daemon:
        daemon.import_image("local:1")
        yield daemon


@pytest.fixture
def hub(daemon: Daemon) -> Iterator[Registry]:
    """An empty registry beside the daemon."""
    with registry(daemon.namespace) as hub:
        yield hub
    forget_images(daemon)


def forget_images(daemon: Daemon) -> None:
    """Remove all images but `local:1`."""
    daemon.remove_containers()
    for found in daemon.request("GET", "/images/json?all=1").json:
        tags, digests = found["RepoTags"] or [], found["RepoDigests"] or []
        for name in [found["Id"]] if "local:1" not in tags else [*tags, *digests]:
            if name != "local:1":
                daemon.request("DELETE", f"/images/{name}?force=1")


@pytest.fixture(params=["sampan", "docker"])
def cli(request: pytest.FixtureRequest, daemon: Daemon) -> Run:
    """Run our CLI, or docker's; return what it prints."""

    def run(*words: str, input: str = "") -> str:
        done = subprocess.run(
            [*daemon.enter, daemon.programs[request.param], *words],
            env=daemon.environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def skopeo(daemon: Daemon) -> Run:
    return lambda *words: inside(daemon, "skopeo", *words)


@pytest.fixture
def podman(daemon: Daemon) -> Iterator[Run]:
    """Podman with a storage of its own; it takes no long paths."""
    with tempfile.TemporaryDirectory(prefix="pod") as folder:
        options = [
            "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs",
        ]  # fmt: skip
        yield lambda *words: inside(daemon, "podman", *options, *words)
        inside(daemon, "podman", *options, "rmi", "--all", "--force")


def inside(daemon: Daemon, *words: str | Path) -> str:
    """Run a program in the daemon's network; return what it prints."""
    done = subprocess.run(
        [*daemon.enter, *map(str, words)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspect(daemon: Daemon, name: str) -> dict[str, Any]:
    answer = daemon.request("GET", f"/images/{name}/json")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


# --- pull: what others have pushed ---------------------------------------------------------------

SHAPES: dict[str, Callable[[], Image]] = {
    "docker": busybox,
    "oci": lambda: busybox(small_layer("x", oci=True), oci=True),
    "zstd": lambda: busybox(
        small_layer("x", compression="zstd", oci=True), compression="zstd", oci=True
    ),
    "plain": lambda: busybox(small_layer("x", compression="", oci=True), compression="", oci=True),
    "empty layers": lambda: busybox(layer(bytes(1024)), layer(bytes(1024)), small_layer("x")),
    "the same layer twice": lambda: busybox(small_layer("x"), small_layer("y"), small_layer("x")),
    "120 layers": lambda: busybox(*(small_layer(f"l{n}") for n in range(119))),
    "sha512 in the manifest": lambda: busybox(
        small_layer("x", algorithm="sha512", oci=True), oci=True
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_of_any_shape_is_pulled_and_runs(
    daemon: Daemon, hub: Registry, shape: str
) -> None:
    made = SHAPES[shape]()
    pushed = push(hub, "shapes/one", "1", made)
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}")
    try:
        pulled = client.images.pull(f"{hub.address}/shapes/one", tag="1")
        assert pulled.id == made.id
        assert pulled.attrs["RepoDigests"] == [f"{hub.address}/shapes/one@{pushed}"]
        assert pulled.attrs["RootFS"]["Layers"] == [item.diff_id for item in made.layers]
        said = client.containers.run(pulled.id, ["echo", "ready"], remove=True, network="none")
        assert said == b"ready\n"
    finally:
        client.close()


def test_the_platform_of_the_host_is_chosen(daemon: Daemon, hub: Registry, cli: Run) -> None:
    here, arm = busybox(), image(small_layer("arm"), architecture="arm64", variant="v8")
    made = index(arm, here, attestations=True)
    pushed = push(hub, "multi", "1", made)
    name = f"{hub.address}/multi:1"
    assert f"Digest: {pushed}" in cli("pull", name)
    assert inspect(daemon, name)["Id"] == here.id
    assert inspect(daemon, name)["RepoDigests"] == [f"{hub.address}/multi@{pushed}"]
    cli("rmi", name)
    cli("pull", "--platform", "linux/arm64", name)
    assert inspect(daemon, name)["Architecture"] == "arm64"


def test_an_image_is_pulled_by_its_digest(daemon: Daemon, hub: Registry, cli: Run) -> None:
    made = busybox()
    pushed = push(hub, "exact", "1", made)
    name = f"{hub.address}/exact@{pushed}"
    said = cli("pull", name)
    assert f"Digest: {pushed}" in said
    assert f"Status: Downloaded newer image for {name}" in said
    assert inspect(daemon, name)["RepoTags"] == []
    assert inspect(daemon, name)["RepoDigests"] == [name]
    assert cli("run", "--rm", "--net=none", name, "echo", "ready") == "ready\n"
    assert f"Status: Image is up to date for {name}" in cli("pull", name)


def test_all_tags_are_pulled(daemon: Daemon, hub: Registry, cli: Run) -> None:
    for tag in ("1", "2", "latest"):
        push(hub, "many", tag, busybox(small_layer(tag)))
    cli("pull", "-a", f"{hub.address}/many")
    listed = cli("images", "--format", "{{.Tag}}", f"{hub.address}/many").split()
    assert sorted(listed) == ["1", "2", "latest"]


def test_foreign_layers_and_unknown_types_are_refused_in_one_sentence(
    daemon: Daemon, hub: Registry
) -> None:
    odd = layer(b"hello", media_type="application/vnd.example.thing", oci=True)
    push(hub, "odd", "artifact", image(odd, oci=True))
    answer = daemon.request("POST", f"/images/create?fromImage={hub.address}/odd&tag=artifact")
    assert b"error" in answer.body or answer.status >= 400
    foreign = layer(b"", media_type=FOREIGN, extra={"urls": ["http://192.0.2.9/layer"]})
    push(hub, "odd", "windows", image(foreign, system="windows"))
    answer = daemon.request("POST", f"/images/create?fromImage={hub.address}/odd&tag=windows")
    assert b"error" in answer.body or answer.status >= 400
    assert daemon.request("GET", f"/images/{hub.address}/odd:windows/json").status == 404
    assert daemon.request("GET", f"/images/{hub.address}/odd:artifact/json").status == 404


# --- push: what others get from us ---------------------------------------------------------------


def test_skopeo_copies_what_we_push(
    daemon: Daemon, hub: Registry, cli: Run, skopeo: Run, tmp_path: Path
) -> None:
    name = f"{hub.address}/ours/local:1"
    cli("tag", "local:1", name)
    cli("push", name)
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    ours = inspect(daemon, name)
    assert ours["RepoDigests"] == [f"{hub.address}/ours/local@{seen['Digest']}"]
    # A copy unpacks nothing but checks digests; the archive is read by us again.
    target = f"docker-archive:{tmp_path}/copy.tar:copied:1"
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", target)
    assert "Loaded image: copied:1" in cli("load", "-i", str(tmp_path / "copy.tar"))
    assert inspect(daemon, "copied:1")["Id"] == ours["Id"]


def test_what_skopeo_pushes_comes_to_us(
    daemon: Daemon, hub: Registry, cli: Run, skopeo: Run, tmp_path: Path
) -> None:
    made = busybox(small_layer("x"))
    push(hub, "source", "1", made)
    source = f"docker://{hub.address}/source:1"
    skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path}/layout:1")
    target = f"{hub.address}/from/skopeo:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:1", f"docker://{target}")
    cli("pull", target)
    assert inspect(daemon, target)["RootFS"]["Layers"] == [item.diff_id for item in made.layers]
    assert cli("run", "--rm", "--net=none", target, "cat", "/x") == "x"


def test_podman_pulls_what_we_push_and_we_what_podman_pushes(
    daemon: Daemon, hub: Registry, cli: Run, podman: Run
) -> None:
    name = f"{hub.address}/ours/local:1"
    cli("tag", "local:1", name)
    cli("push", name)
    podman("pull", "--quiet", "--tls-verify=false", name)
    ours = inspect(daemon, name)
    assert f"sha256:{json.loads(podman('image', 'inspect', name))[0]['Id']}" == ours["Id"]
    for form in ("v2s2", "oci"):
        target = f"{hub.address}/from/podman:{form}"
        podman("push", "--quiet", "--tls-verify=false", "--format", form, name, target)
        cli("pull", target)
        assert inspect(daemon, target)["RootFS"] == ours["RootFS"]
        assert cli("run", "--rm", "--net=none", target, "echo", form) == f"{form}\n"


@pytest.mark.parametrize("shape", ["docker", "oci", "zstd", "plain", "sha512 in the manifest"])
def test_a_pulled_image_is_pushed_with_the_same_digest(
    daemon: Daemon, hub: Registry, cli: Run, shape: str
) -> None:
    pushed = push(hub, "source/one", "1", SHAPES[shape]())
    name = f"{hub.address}/source/one:1"
    cli("pull", name)
    for target in (f"{hub.address}/source/one:2", f"{hub.address}/other:1"):
        cli("tag", name, target)
        assert f"digest: {pushed}" in cli("push", target)
    assert hub.tags("other") == ["1"]
    # Nothing was uploaded: the layers are mounted from the other repository.
    assert [a for a in hub.accesses("uploads") if a.method == "PATCH"] == []


def test_a_pulled_image_goes_to_another_registry_with_the_same_digest(
    daemon: Daemon, hub: Registry, cli: Run
) -> None:
    pushed = push(hub, "source/one", "1", busybox(small_layer("x")))
    cli("pull", f"{hub.address}/source/one:1")
    with registry(daemon.namespace) as other:
        target = f"{other.address}/copy:1"
        cli("tag", f"{hub.address}/source/one:1", target)
        assert f"digest: {pushed}" in cli("push", target)
        other.forget()
        assert f"digest: {pushed}" in cli("push", target)
        assert {access.method for access in other.accesses("blobs")} <= {"HEAD"}
        assert other.ask("GET", f"/v2/copy/manifests/{pushed}").status == 200


def test_a_pulled_image_is_pushed_even_if_its_registry_is_gone(
    daemon: Daemon, hub: Registry, cli: Run, skopeo: Run
) -> None:
    with registry(daemon.namespace) as source:
        made = busybox(small_layer("x"))
        push(source, "gone", "1", made)
        name = f"{source.address}/gone:1"
        cli("pull", name)
    target = f"{hub.address}/kept:1"
    cli("tag", name, target)
    cli("push", target)
    cli("rmi", target, name)
    cli("pull", target)
    assert inspect(daemon, target)["RootFS"]["Layers"] == [item.diff_id for item in made.layers]
    assert cli("run", "--rm", "--net=none", target, "cat", "/x") == "x"


def test_all_tags_are_pushed(daemon: Daemon, hub: Registry, cli: Run) -> None:
    for tag in ("1", "2", "3"):
        cli("tag", "local:1", f"{hub.address}/many:{tag}")
    cli("push", "-a", f"{hub.address}/many")
    assert hub.tags("many") == ["1", "2", "3"]


# --- credentials -----------------------------------------------------------------------------


@pytest.fixture(params=["htpasswd", "tokens", "old tokens"])
def locked(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Registry]:
    """A registry for users only."""
    if request.param == "htpasswd":
        with registry(daemon.namespace, users=USERS) as hub:
            yield hub
    else:
        with (
            token_server(daemon.namespace, USERS) as tokens,
            registry(daemon.namespace, tokens=tokens) as hub,
        ):
            tokens.posts = request.param == "tokens"
            yield hub
    forget_images(daemon)
    shutil.rmtree(daemon.folder / "config")
    (daemon.folder / "config").mkdir()


def test_who_is_logged_in_may_push_and_pull(daemon: Daemon, locked: Registry, cli: Run) -> None:
    name = f"{locked.address}/private/local:1"
    cli("tag", "local:1", name)
    with pytest.raises(AssertionError, match=r"denied|no basic auth credentials|unauthorized"):
        cli("push", name)
    said = cli("login", "-u", "captain", "--password-stdin", locked.address, input="secret\n")
    assert "Login Succeeded" in said
    cli("push", name)
    cli("rmi", name)
    cli("pull", name)
    assert locked.tags("private/local") == ["1"]
    cli("logout", locked.address)
    cli("rmi", name)
    with pytest.raises(AssertionError, match=r"denied|no basic auth credentials|unauthorized"):
        cli("pull", name)


def test_a_wrong_password_is_refused(daemon: Daemon, locked: Registry, cli: Run) -> None:
    with pytest.raises(AssertionError, match=r"unauthorized|401"):
        cli("login", "-u", "captain", "--password-stdin", locked.address, input="wrong\n")


def test_docker_py_pushes_and_pulls_with_credentials(daemon: Daemon, locked: Registry) -> None:
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}")
    auth = {"username": "captain", "password": "secret"}
    name = f"{locked.address}/by/docker-py"
    try:
        client.images.get("local:1").tag(name, "1")
        lines = list(client.images.push(name, "1", auth_config=auth, stream=True, decode=True))
        assert not [line for line in lines if "error" in line], lines
        pushed = lines[-1]["aux"]["Digest"]
        data = client.images.get_registry_data(f"{name}:1", auth_config=auth)
        assert data.id == pushed
        client.images.remove(f"{name}:1")
        pulled = client.images.pull(name, tag=pushed, auth_config=auth)
        assert pulled.id == client.images.get("local:1").id
        assert client.login("captain", "secret", registry=locked.address)["Status"]
    finally:
        client.close()
