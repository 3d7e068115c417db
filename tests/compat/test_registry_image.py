"""The image of our registry, built by our builder and run as docker-registry's is.

By our engine, and by Debian's dockerd: the guide's chapter always, all else in the `wide` set.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import debian, lan, stores
from tests.daemon import REPOSITORY, Daemon, running
from tests.registries import add_address
from tests.remote_images import busybox, push, small_layer
from tests.session import eventually, scratch
from tests.wire import Site, within

pytestmark = [
    *(pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow),
    pytest.mark.timeout(600),  # Python is installed
]
PACKAGING = REPOSITORY / "packaging" / "registry-image"
REACHED = "203.0.113.5"  # TEST-NET-3: an address that no engine takes for its own machine
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


@dataclass
class Place:
    """An engine that reads `settings` when it starts, and where else it is reached."""

    daemon: Daemon
    settings: Path


@contextlib.contextmanager
def place(program: str = "") -> Iterator[Place]:
    folder = scratch()
    settings = folder / "daemon.json"
    settings.write_text("{}")
    folder.chmod(0o755)
    try:
        with running(f"--config-file={settings}", program=program) as daemon:
            add_address(daemon.namespace, REACHED)
            yield Place(daemon, settings)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Our engine with the image, which it has built."""
    with place() as found, lan.switch("192.0.2.1/24", found.daemon.namespace) as outside:
        lan.ip(found.daemon.namespace, "addr add 192.0.2.2/24 dev em1")
        context = tmp_path_factory.mktemp("image") / "context"
        subprocess.run([PACKAGING / "context", context], check=True, capture_output=True)
        with debian.mirror(outside) as port:
            debian.import_base(found.daemon)
            proxy = f"http_proxy=http://192.0.2.1:{port}"
            docker(found.daemon, "build", "-t", "registry", "--build-arg", proxy, str(context))
        yield found


@pytest.fixture(scope="module")
def dockers(ours: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Debian's dockerd with the same image."""
    archive = str(tmp_path_factory.mktemp("saved") / "registry.tar")
    docker(ours.daemon, "save", "-o", archive, "registry")
    with place("dockerd") as found:
        docker(found.daemon, "load", "-i", archive)
        Path(archive).unlink()
        yield found


@pytest.fixture(params=["ours", pytest.param("dockers", marks=pytest.mark.wide)])
def engine(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def daemon(engine: Place) -> Daemon:
    return engine.daemon


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
    docker(daemon, "stop", "-t", "60", "hub")
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


def test_the_data_is_where_the_configuration_says(daemon: Daemon, hub: Hub, tmp_path: Path) -> None:
    place = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/data"
    data, config = tmp_path / "data", tmp_path / "config.yml"
    data.mkdir()
    start(daemon, hub, "-v", f"{data}:/data", "-e", place, "registry")
    assert ids(daemon) == nobody_special(5000)
    push(hub, "team/app", "1", busybox())
    docker(daemon, "rm", "-f", "hub")
    config.write_text('version: 0.1\nstorage: {filesystem: {rootdirectory: "/data"}}  # there\n')
    config.chmod(0o644)
    volumes = ("-v", f"{data}:/data", "-v", f"{config}:{CONFIG}")
    start(daemon, hub, *volumes, "registry")
    assert hub.tags("team/app") == ["1"]
    assert (data / "docker/registry/v2/repositories/team/app").stat().st_uid == 5000
    docker(daemon, "rm", "-f", "hub")
    start(daemon, hub, "-e", place.replace("/data", "/some/where"), "registry")
    push(hub, "team/app", "2", busybox())
    assert "docker" in docker(daemon, "exec", "hub", "ls", "/some/where")


def test_it_starts_again_tells_what_it_does_and_collects_garbage(daemon: Daemon, hub: Hub) -> None:
    start(daemon, hub, "--restart", "always", "registry")
    push(hub, "team/app", "1", busybox())
    collect = ("exec", "hub", "bin/registry", "garbage-collect", "-m", "--delay", "1h", CONFIG)
    assert "0 blobs and 0 manifests eligible" in docker(daemon, *collect)
    push(hub, "team/app", "2", busybox())  # the command has left nothing that is root's
    pid = int(docker(daemon, "inspect", "--format", "{{.State.Pid}}", "hub"))
    os.kill(pid, signal.SIGKILL)
    count = ("inspect", "--format", "{{.RestartCount}}", "hub")
    eventually(lambda: docker(daemon, *count) == "1\n" and hub.serves())
    assert hub.tags("team/app") == ["1", "2"]
    eventually(lambda: docker(daemon, "logs", "hub").count("listening on") == 2)
    told = docker(daemon, "logs", "hub")
    assert '"PUT /v2/team/app/manifests/2 HTTP/1.1" 201' in told
    docker(daemon, "stop", "-t", "60", "hub")
    assert docker(daemon, "inspect", "--format", "{{.State.ExitCode}}", "hub") == "0\n"


@pytest.mark.parametrize("engine", ["ours", "dockers"], indirect=True)
def test_3_3_2_of_the_guide_step_by_step(engine: Place, hub: Hub) -> None:
    daemon, address = engine.daemon, f"{REACHED}:5000"
    daemon.import_image("ubuntu:latest")
    engine.settings.write_text("{}")
    start(daemon, hub, "registry")  # docker run -d -p 5000:5000 registry
    docker(daemon, "tag", "ubuntu:latest", f"{address}/ubuntu:18.4")
    assert f"{address}/ubuntu" in docker(daemon, "images")
    refused = docker(daemon, "push", f"{address}/ubuntu:18.4", status=1)
    assert "server gave HTTP response to HTTPS client" in refused
    engine.settings.write_text(json.dumps({"insecure-registries": [address]}))
    daemon.stop()  # systemctl restart docker
    daemon.start()
    assert "hub" in docker(daemon, "ps", "-a", "--format", "{{.Names}}")
    docker(daemon, "start", "hub")
    eventually(hub.serves)
    said = docker(daemon, "push", f"{address}/ubuntu:18.4")
    assert f"The push refers to repository [{address}/ubuntu]" in said
    assert "18.4: digest: sha256:" in said
    assert "Layer already exists" in docker(daemon, "push", f"{address}/ubuntu:18.4")
    catalog, tags = (hub.ask("GET", path).body for path in ("/v2/_catalog", "/v2/ubuntu/tags/list"))
    assert catalog.strip() == b'{"repositories":["ubuntu"]}'
    assert tags.strip() == b'{"name":"ubuntu","tags":["18.4"]}'
    docker(daemon, "rmi", f"{address}/ubuntu:18.4")
    assert "Downloaded newer image" in docker(daemon, "pull", f"{address}/ubuntu:18.4")
    docker(daemon, "rmi", f"{address}/ubuntu:18.4")
    found = docker(daemon, "search", f"{address}/ubu")
    assert [line.split()[0] for line in found.splitlines()] == ["NAME", "ubuntu"]


LIBRARIES = """
botocore azure.identity azure.storage.blob google.cloud.storage swiftclient keystoneauth1 oss2
redis psycopg acme bugsnag newrelic re2
"""


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_a_bucket_is_all_that_it_needs(daemon: Daemon, hub: Hub) -> None:
    """The guide's second example in today's words; its container keeps nothing."""
    with within(daemon.namespace), stores.moto() as site:
        options = {**stores.s3_bucket(site), "rootdirectory": "/registry"}
        variables = [f"REGISTRY_STORAGE_S3_{key.upper()}={word}" for key, word in options.items()]
        words = [word for one in ("REGISTRY_STORAGE=s3", *variables) for word in ("-e", one)]
        for tag in ("1", "2"):
            start(daemon, hub, "--network", "host", *words, "registry")
            push(hub, "team/app", tag, busybox(small_layer(tag)))
            docker(daemon, "rm", "-f", "-v", "hub")
        start(daemon, hub, "--network", "host", *words, "registry")
        assert hub.tags("team/app") == ["1", "2"]


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_what_a_configuration_may_ask_for_is_in_the_image(daemon: Daemon) -> None:
    program = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]"
    path = ("-e", "PYTHONPATH=/opt/sampan")
    words = ("registry", "python3", "-W", "ignore", "-c", program, *LIBRARIES.split())
    assert docker(daemon, "run", "--rm", *path, *words) == ""


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_all_of_the_registry_imports_there_and_every_storage_opens(daemon: Daemon) -> None:
    program = REPOSITORY / "tests" / "compat" / "registry_image_imports.py"
    given = ("-e", "PYTHONPATH=/opt/sampan", "-v", f"{program}:/imports.py:ro")
    locked = ("--read-only", "--tmpfs", "/tmp", "--user", "7:7", "--network", "none")
    words = ("registry", "python3", "-P", "-W", "ignore", "/imports.py")
    said = docker(daemon, "run", "--rm", *given, *locked, *words).split()
    folders = (REPOSITORY / "src" / "sampan" / name for name in ("registry", "registryd"))
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    assert said == [str(len(modules) - 2), "s3", "azure", "gcs", "swift", "oss"]


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_what_reads_its_own_source_finds_it(daemon: Daemon) -> None:
    """Else anyio imports all of itself: 1.5 MB of memory."""
    program = "import sys, starlette.applications; print('anyio.to_process' in sys.modules)"
    words = ("-e", "PYTHONPATH=/opt/sampan", "registry", "python3", "-c", program)
    assert docker(daemon, "run", "--rm", *words) == "False\n"


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_it_trusts_who_debian_trusts_and_tells_scanners_what_is_in_it(daemon: Daemon) -> None:
    program = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    said = docker(daemon, "run", "--rm", "registry", "python3", "-c", program)
    assert int(said) > 100
    said = docker(daemon, *("run", "--rm", "registry"), *("cat", "/var/lib/dpkg/status"))
    packages = {line.split()[1] for line in said.splitlines() if line.startswith("Package: ")}
    assert packages >= {"busybox", "ca-certificates", "libc6", "libssl3", "libpython3.11-stdlib"}
    assert "perl-base" not in packages


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_the_image_is_small(daemon: Daemon) -> None:
    size = int(docker(daemon, "image", "inspect", "--format", "{{.Size}}", "registry"))
    assert size < 135_000_000, docker(daemon, "history", "registry")
