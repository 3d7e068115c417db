"""docker, podman and skopeo on our registry with TLS, where users have passwords or tokens."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.remote_images import busybox, push, small_layer
from tests.session import eventually, scratch
from tests.tokens import token_server

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret"}
LOGIN = ("-u", "captain", "-p", "secret")


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    folder = scratch()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(certificates: Path) -> Iterator[Daemon]:
    with running("--registry-certs", str(certificates)) as found:
        yield found


@pytest.fixture(params=["passwords", "tokens"])
def hub(request: pytest.FixtureRequest, daemon: Daemon, certificates: Path) -> Iterator[Registry]:
    place = {"namespace": daemon.namespace, "host": OUTSIDE, "tls": True, "program": OURS}
    with contextlib.ExitStack() as stack:
        if request.param == "passwords":
            found = stack.enter_context(registry(**place, users=USERS))  # type: ignore[arg-type]
        else:
            server = stack.enter_context(token_server(daemon.namespace, USERS))
            found = stack.enter_context(registry(**place, tokens=server))  # type: ignore[arg-type]
        assert found.authority
        folder = certificates / found.address
        folder.mkdir()
        (folder / "ca.crt").write_bytes(found.authority.certificate)
        assert daemon.process
        daemon.process.send_signal(signal.SIGHUP)  # it looks at its certificates again
        push(found, "secret/app", "1", busybox(small_layer("note"), Cmd=["true"]))
        yield found


def run(daemon: Daemon, *words: str | Path, status: int = 0) -> str:
    done = subprocess.run(
        [*daemon.enter, *map(str, words)],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def logs_in(daemon: Daemon, address: str) -> bool:
    command = [*daemon.enter, "docker", "login", *LOGIN, address]
    done = subprocess.run(command, env=daemon.environment, capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("hub", ["passwords"], indirect=True)  # tokens: test_own_tokens.py
def test_docker_logs_in_pushes_pulls_and_searches(daemon: Daemon, hub: Registry) -> None:
    eventually(lambda: logs_in(daemon, hub.address))
    app, other = f"{hub.address}/secret/app", f"{hub.address}/secret/other"
    run(daemon, "docker", "pull", f"{app}:1")
    for name in (f"{app}:2", f"{other}:1"):
        run(daemon, "docker", "tag", f"{app}:1", name)
        run(daemon, "docker", "push", name)
    run(daemon, "docker", "rmi", f"{app}:1", f"{app}:2", f"{other}:1")
    run(daemon, "docker", "run", "--rm", f"{other}:1")
    run(daemon, "docker", "rmi", f"{other}:1")
    assert (hub.tags("secret/app"), hub.tags("secret/other")) == (["1", "2"], ["1"])
    found = run(daemon, "docker", "search", f"{hub.address}/oth")
    assert [line.split()[0] for line in found.splitlines()] == ["NAME", "secret/other"]
    run(daemon, "docker", "logout", hub.address)
    refused = run(daemon, "docker", "push", f"{app}:1", status=1)
    assert "does not exist" in refused
    run(daemon, "docker", "pull", f"{app}:1", status=1)


def test_podman_logs_in_pushes_and_pulls(daemon: Daemon, hub: Registry, certificates: Path) -> None:
    place = scratch()  # podman wants a short path
    try:
        podman = [
            *("podman", "--root", place / "root", "--runroot", place / "run"),
            *("--storage-driver", "vfs"),
        ]
        known = ["--cert-dir", certificates / hub.address, "--authfile", place / "auth.json"]
        name = f"{hub.address}/secret/app"
        run(daemon, *podman, "pull", *known, f"{name}:1", status=125)
        run(daemon, *podman, "login", *known, *LOGIN, hub.address)
        run(daemon, *podman, "pull", *known, f"{name}:1")
        run(daemon, *podman, "tag", f"{name}:1", f"{name}:3")
        run(daemon, *podman, "push", *known, f"{name}:3")
        assert hub.tags("secret/app") == ["1", "3"]
        run(daemon, *podman, "rmi", "-af")
        run(daemon, *podman, "pull", *known, f"{name}:3")
        run(daemon, *podman, "rmi", "-af")
        run(daemon, *podman, "logout", "--authfile", place / "auth.json", hub.address)
    finally:
        shutil.rmtree(place)


def test_skopeo_copies_lists_and_deletes(
    daemon: Daemon, hub: Registry, certificates: Path, tmp_path: Path
) -> None:
    name = f"docker://{hub.address}/secret/app"
    folder = certificates / hub.address
    known = ["--cert-dir", folder, "--creds", "captain:secret"]
    both = ["--src-cert-dir", folder, "--dest-cert-dir", folder]
    both += ["--src-creds", "captain:secret", "--dest-creds", "captain:secret"]
    run(daemon, "skopeo", "copy", *both, f"{name}:1", f"docker://{hub.address}/secret/copy:1")
    run(daemon, "skopeo", "copy", *both[:2], *both[4:6], f"{name}:1", f"dir:{tmp_path}/out")
    run(daemon, "skopeo", "copy", *both[2:4], *both[6:], f"dir:{tmp_path}/out", f"{name}:4")
    listed = json.loads(run(daemon, "skopeo", "list-tags", *known, name))
    assert listed["Tags"] == ["1", "4"]
    run(daemon, "skopeo", "delete", *known, f"{name}:4")
    assert hub.tags("secret/app") == []  # skopeo deletes the manifest, which both tags led to
    wrong = [*known[:2], "--creds", "captain:wrong"]
    run(daemon, "skopeo", "delete", *wrong, f"docker://{hub.address}/secret/copy:1", status=1)
    assert hub.tags("secret/copy") == ["1"]
