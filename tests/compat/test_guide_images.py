"""The guide's chapters on images (3.1) and registries (3.3), with our CLI and with docker's.

Each test is one section; what the guide prints is what must come out, in today's form. Docker Hub
is a mirror in the daemon's network; `ubuntu` there is a small busybox image.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests import busybox, docker_hub
from tests.daemon import Daemon, running
from tests.registries import OUTSIDE, Registry, add_address, registry
from tests.remote_images import image, layer, push
from tests.session import PATIENCE, eventually
from tests.tarballs import archive, file
from tests.wire import Server, Site, serving

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

Run = Callable[..., subprocess.CompletedProcess[str]]
ID = r"[0-9a-f]{12}"
INSECURE = f"{OUTSIDE}:5001"


@pytest.fixture(scope="module")
def hub() -> Iterator[tuple[Daemon, Registry]]:
    """A daemon, and what it takes for Docker Hub."""
    options = (*docker_hub.OPTIONS, "--insecure-registry", INSECURE)
    with running(*options) as daemon, docker_hub.docker_hub(daemon.namespace) as hub:
        add_address(daemon.namespace, OUTSIDE)
        yield daemon, hub


@pytest.fixture
def daemon(hub: tuple[Daemon, Registry]) -> Iterator[Daemon]:
    daemon, _ = hub
    yield daemon
    daemon.remove_containers()
    for found in daemon.request("GET", "/images/json?all=1").json:
        daemon.request("DELETE", f"/images/{found['Id']}?force=1")


@pytest.fixture(params=["sampan", "docker"])
def cli(request: pytest.FixtureRequest, daemon: Daemon) -> str:
    """The program under test: ours, or the unmodified docker CLI."""
    program: str = daemon.programs[request.param]
    return program


@pytest.fixture
def run(cli: str, daemon: Daemon) -> Run:
    def run(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [cli, *words], env=daemon.environment, input=input, capture_output=True, timeout=60
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    return run


def well(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed that must succeed."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# --- 3.1 images ------------------------------------------------------------------------------


def test_3_1_1_pull_prints_a_line_for_each_layer(run: Run) -> None:
    said = well(run("pull", "ubuntu")).splitlines()
    assert said[:2] == ["Using default tag: latest", "latest: Pulling from library/ubuntu"]
    assert len([line for line in said if re.fullmatch(f"{ID}: Pull complete", line)]) == 5
    assert re.fullmatch("Digest: sha256:[0-9a-f]{64}", said[-3])
    assert said[-2:] == [
        "Status: Downloaded newer image for ubuntu:latest",
        "docker.io/library/ubuntu:latest",
    ]
    again = well(run("pull", "ubuntu")).splitlines()
    assert again[-2] == "Status: Image is up to date for ubuntu:latest"


def test_3_1_1_pull_from_another_registry_and_use_it(
    run: Run, cli: str, daemon: Daemon, hub: tuple[Daemon, Registry]
) -> None:
    name = f"{hub[1].address}/library/ubuntu:18.04"
    assert f"Status: Downloaded newer image for {name}" in well(run("pull", name))
    child = pexpect.spawn(
        cli,
        ["run", "--net=none", "-t", "-i", name, "/bin/sh"],
        env=daemon.environment,
        timeout=PATIENCE,
    )
    child.expect(r"/ # ")
    child.sendline("cat /ubuntu3")
    child.expect("\r\nubuntu3")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_3_1_1_pull_on_a_terminal_draws_progress(cli: str, daemon: Daemon) -> None:
    child = pexpect.spawn(cli, ["pull", "ubuntu"], env=daemon.environment, timeout=PATIENCE)
    child.expect("Pulling from library/ubuntu")
    child.expect(f"{ID}: ")
    child.expect("Pull complete")
    child.expect("Status: Downloaded newer image for ubuntu:latest")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_3_1_2_images_lists_names_of_one_image(run: Run) -> None:
    well(run("pull", "-q", "ubuntu:18.04"))
    well(run("pull", "-q", "ubuntu:latest"))
    head, *rows = well(run("images")).splitlines()
    assert head.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    fields = sorted(row.split() for row in rows)
    assert [row[:2] for row in fields] == [["ubuntu", "18.04"], ["ubuntu", "latest"]]
    assert fields[0][2] == fields[1][2]
    assert re.fullmatch(ID, fields[0][2])
    assert rows[0].rstrip().endswith("MB")


def test_3_1_3_1_a_changed_container_becomes_an_image(run: Run) -> None:
    well(run("pull", "-q", "ubuntu"))
    well(run("run", "--net=none", "--name", "changed", "ubuntu", "sh", "-c", "echo gem > /json"))
    words = ["-m", "Added json gem", "-a", "Docker Newbee", "changed", "ouruser/sinatra:v2"]
    said = well(run("commit", *words))
    assert re.fullmatch("sha256:[0-9a-f]{64}\n", said)
    assert re.search(f"ouruser/sinatra +v2 +{said[7:19]}", well(run("images")))
    seen = well(run("inspect", "-f", "{{.Author}}|{{.Comment}}", "ouruser/sinatra:v2"))
    assert seen == "Docker Newbee|Added json gem\n"
    assert "Added json gem" in well(run("history", "ouruser/sinatra:v2"))
    shown = well(run("run", "--rm", "--net=none", "ouruser/sinatra:v2", "cat", "/json"))
    assert shown == "gem\n"


def test_3_1_3_3_a_compressed_archive_is_imported_from_stdin_a_file_and_a_url(
    run: Run, daemon: Daemon, tmp_path: Path
) -> None:
    content = gzip.compress(busybox.archive(), 1)
    said = well(run("import", "-", "ubuntu:18.04", input=content))
    assert re.fullmatch("sha256:[0-9a-f]{64}\n", said)
    assert re.search(f"ubuntu +18.04 +{said[7:19]}", well(run("images")))
    (tmp_path / "root.tar.gz").write_bytes(content)
    change = ["-c", 'CMD ["echo", "from a file"]', "-m", "imported"]
    well(run("import", *change, str(tmp_path / "root.tar.gz"), "from:file"))
    assert well(run("run", "--rm", "--net=none", "from:file")) == "from a file\n"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    site = Site(daemon.namespace)
    with serving(Server(site, Handler)):
        well(run("import", f"{site.url}/root.tar.gz", "from:url"))
    shown = well(run("run", "--rm", "--net=none", "from:url", "echo", "from a url"))
    assert shown == "from a url\n"


def test_3_1_5_an_image_is_saved_and_loaded(run: Run, tmp_path: Path) -> None:
    well(run("pull", "-q", "ubuntu:18.04"))
    before = well(run("images", "-q", "--no-trunc"))
    saved = tmp_path / "ubuntu_18.04.tar"
    well(run("save", "-o", str(saved), "ubuntu:18.04"))
    well(run("rmi", "ubuntu:18.04"))
    assert "Loaded image: ubuntu:18.04" in well(run("load", "--input", str(saved)))
    well(run("rmi", "ubuntu:18.04"))
    assert "Loaded image: ubuntu:18.04" in well(run("load", input=saved.read_bytes()))
    assert well(run("images", "-q", "--no-trunc")) == before


def test_3_1_6_an_image_is_removed_after_its_containers(run: Run) -> None:
    well(run("pull", "-q", "ubuntu:18.04"))
    well(run("create", "--name", "user", "ubuntu:18.04"))
    refused = run("rmi", "ubuntu:18.04")
    assert refused.returncode == 1
    assert "conflict: unable to remove repository reference" in refused.stderr
    well(run("rm", "user"))
    said = well(run("rmi", "ubuntu:18.04")).splitlines()
    assert said[0] == "Untagged: ubuntu:18.04"
    assert re.fullmatch("Untagged: ubuntu@sha256:[0-9a-f]{64}", said[1])
    assert all(re.fullmatch("Deleted: sha256:[0-9a-f]{64}", line) for line in said[2:])
    assert len(said) == 2 + 1 + 5


# --- 3.3 registries --------------------------------------------------------------------------


def test_3_3_1_1_login_asks_for_name_and_password(cli: str, daemon: Daemon, run: Run) -> None:
    with registry(daemon.namespace, users={"captain": "secret"}) as locked:
        child = pexpect.spawn(
            cli, ["login", locked.address], env=daemon.environment, timeout=PATIENCE
        )
        child.expect("Username: ")
        child.sendline("captain")
        child.expect("Password: ")
        child.sendline("secret")
        child.expect("Login Succeeded")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        config = json.loads((daemon.folder / "config/config.json").read_text())
        assert list(config["auths"]) == [locked.address]
        said = well(run("logout", locked.address))
        assert said == f"Removing login credentials for {locked.address}\n"


def test_3_3_1_2_search_shows_stars_and_officials(cli: str, daemon: Daemon, run: Run) -> None:
    with docker_hub.search_index(daemon.namespace) as index:
        head, *rows = well(run("search", f"{index.address}/centos")).splitlines()
        assert head.split()[:4] == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
        assert len(rows) == len(docker_hub.FOUND)
        assert re.fullmatch(
            r"(\S*/)?centos +The official build of CentOS\. +4754 +\[OK\] *", rows[0]
        )
        assert "7.5.1804 x86…" in "\n".join(rows)
        options = [["--filter", "stars=100"], ["--limit", "2"], ["--filter", "is-official=true"]]
        if cli.endswith("/sampan"):
            options.append(["-s", "100"])
        counts = [
            len(well(run("search", *words, f"{index.address}/centos")).splitlines()) - 1
            for words in options
        ]
        assert counts[:3] == [2, 2, 1]
        assert counts[3:] in ([], [2])


def registry_image() -> Any:
    """Return Debian's docker-registry as an image, with the libraries that it needs."""
    program = "/usr/bin/docker-registry"
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listed)
    packed = subprocess.run(
        ["tar", "-chf", "-", "-P", "--transform", "s,^/,,", program, *libraries],
        capture_output=True,
        check=True,
    ).stdout
    config = ["/bin/sh", "-c", "mkdir -p /tmp/registry; exec docker-registry serve /config.yml"]
    settings = json.dumps(
        {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": "/tmp/registry"}},
            "http": {"addr": ":5000"},
        }
    ).encode()
    layers = [layer(busybox.archive()), layer(packed), layer(archive(file("config.yml", settings)))]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return image(*layers, Cmd=config, Env=[path], ExposedPorts={"5000/tcp": {}})


def test_3_3_2_a_private_registry_in_a_container(
    run: Run, daemon: Daemon, hub: tuple[Daemon, Registry]
) -> None:
    push(hub[1], "library/registry", "latest", registry_image())
    done = run("run", "-d", "-p", "5001:5000", "registry")
    well(done)
    assert "Unable to find image 'registry:latest' locally" in done.stderr
    site = Site(daemon.namespace, OUTSIDE, 5001)

    def answers() -> bool:
        try:
            return site.ask("GET", "/v2/").status == 200
        except OSError:
            return False

    eventually(answers)
    well(run("pull", "-q", "ubuntu:latest"))
    well(run("tag", "ubuntu:latest", f"{INSECURE}/ubuntu:18.4"))
    assert re.search(rf"{INSECURE}/ubuntu +18\.4 ", well(run("images")))
    said = well(run("push", f"{INSECURE}/ubuntu:18.4"))
    assert f"The push refers to repository [{INSECURE}/ubuntu]" in said
    assert re.search(f"{ID}: Pushed", said)
    assert re.search(r"18\.4: digest: sha256:[0-9a-f]{64} size: \d+", said)
    assert site.ask("GET", "/v2/_catalog").json == {"repositories": ["ubuntu"]}
    assert site.ask("GET", "/v2/ubuntu/tags/list").json == {"name": "ubuntu", "tags": ["18.4"]}
    again = well(run("push", f"{INSECURE}/ubuntu:18.4"))
    assert len(re.findall(f"{ID}: Layer already exists", again)) == 5
    well(run("rmi", f"{INSECURE}/ubuntu:18.4", "ubuntu:latest"))
    well(run("pull", f"{INSECURE}/ubuntu:18.4"))
    assert re.search(rf"{INSECURE}/ubuntu +18\.4 ", well(run("images")))
