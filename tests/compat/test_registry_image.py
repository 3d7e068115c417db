"""The image of our registry, built by our builder and run by our engine as docker-registry's is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import debian, lan
from tests.daemon import REPOSITORY, Daemon, running
from tests.remote_images import busybox, push, small_layer
from tests.session import eventually
from tests.wire import Site

pytestmark = [
    *(pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow),
    pytest.mark.timeout(600),  # Python is installed
]
PACKAGING = REPOSITORY / "packaging" / "registry-image"
CONFIG = "/etc/docker/registry/config.yml"


class Hub:
    """The registry at the port that the container publishes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ask = site.ask
        self.address = site.address

    def tags(self, name: str) -> list[str]:
        reply = self.ask("GET", f"/v2/{name}/tags/list")
        return list(reply.json["tags"]) if reply.status == 200 else []

    def serves(self) -> bool:
        try:
            return self.ask("GET", "/v2/").status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running() as found, lan.switch("192.0.2.1/24", found.namespace) as outside:
        lan.ip(found.namespace, "addr add 192.0.2.2/24 dev em1")
        context = tmp_path_factory.mktemp("image") / "context"
        subprocess.run([PACKAGING / "context", context], check=True, capture_output=True)
        with debian.mirror(outside) as port:
            debian.import_base(found)
            proxy = f"http_proxy=http://192.0.2.1:{port}"
            docker(found, "build", "-t", "registry", "--build-arg", proxy, str(context))
        yield found


@pytest.fixture
def hub(daemon: Daemon) -> Iterator[Hub]:
    yield Hub(Site(daemon.namespace, port=5000))
    daemon.remove_containers()


def docker(daemon: Daemon, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [*daemon.enter, "docker", *words],
        env={**daemon.environment, "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout[-4000:]
    return done.stdout


def start(daemon: Daemon, hub: Hub, *words: str) -> None:
    docker(daemon, "run", "-d", "--name", "hub", "-p", "5000:5000", *words)
    try:
        eventually(hub.serves)
    except AssertionError as error:
        raise AssertionError(docker(daemon, "logs", "hub")) from error


def ids(daemon: Daemon) -> str:
    """Return the ids that the registry works with, and what it may do."""
    script = "grep -h -E '^(Uid|CapEff|CapBnd):' /proc/1/status | tr -s '\\t\\n' ' '"
    return docker(daemon, "exec", "hub", "sh", "-c", script).strip()


def nobody_special(uid: int) -> str:
    return f"Uid: {uid} {uid} {uid} {uid} CapEff: {0:016x} CapBnd: {0:016x}"


def test_a_registry_runs_from_the_image_and_keeps_its_data(
    daemon: Daemon, hub: Hub, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    volume = ("-v", f"{data}:/var/lib/registry")
    start(daemon, hub, *volume, "registry")
    assert ids(daemon) == nobody_special(5000)
    push(hub, "team/app", "1", busybox(small_layer("x")))
    docker(daemon, "rm", "-f", "hub")
    # docker-registry 3 has its configuration elsewhere; variables override it.
    config = tmp_path / "config.yml"
    text = (PACKAGING / "config.yml").read_text().replace("X-Content-Type-Options", "X-Mounted")
    config.write_text(text)
    config.chmod(0o644)
    mounted = ("-v", f"{config}:/etc/distribution/config.yml:ro")
    start(daemon, hub, *volume, *mounted, "-e", "REGISTRY_STORAGE_DELETE_ENABLED=true", "registry")
    reply = hub.ask("GET", "/v2/")
    assert reply.headers["X-Mounted"] == "nosniff"
    assert hub.tags("team/app") == ["1"]
    assert hub.ask("DELETE", "/v2/team/app/manifests/1").status == 202
    docker(daemon, "stop", "-t", "10", "hub")
    state = docker(daemon, "inspect", "--format", "{{.State.ExitCode}}", "hub")
    assert state == "0\n"
    said = docker(daemon, *("run", "--rm", *volume, "registry", "garbage-collect", "-m", CONFIG))
    assert "4 blobs and 1 manifests eligible for deletion" in said


def test_the_data_of_a_docker_registry_is_served_where_it_lies(
    daemon: Daemon, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "docker").mkdir(mode=0o755)  # root has written here
    start(daemon, hub, "-v", f"{tmp_path}:/var/lib/registry", "registry", "serve", CONFIG)
    assert ids(daemon) == nobody_special(0)
    push(hub, "team/app", "1", busybox())
    assert (tmp_path / "docker/registry/v2/repositories/team/app").stat().st_uid == 0


def test_whoever_it_is_told_to_be(daemon: Daemon, hub: Hub, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    locked = ("--user", "7:7", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp")
    start(daemon, hub, *locked, "-v", f"{tmp_path}:/var/lib/registry", "registry", CONFIG)
    assert ids(daemon) == nobody_special(7)
    push(hub, "team/app", "1", busybox())
    assert hub.tags("team/app") == ["1"]
    said = docker(daemon, "run", "--rm", "registry", "verify", CONFIG)
    assert said == f"{CONFIG}: ok\n"


def test_the_image_is_small(daemon: Daemon) -> None:
    size = int(docker(daemon, "image", "inspect", "--format", "{{.Size}}", "registry"))
    base = int(docker(daemon, "image", "inspect", "--format", "{{.Size}}", debian.IMAGE))
    assert size - base < 160 << 20, (size, base)
