"""Our token service with real clients, in front of docker-registry and of our own registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import running
from tests.registries import DEBIANS, NEEDS_THIRD, OURS, THIRD, registry
from tests.remote_images import busybox, push, small_layer
from tests.session import scratch
from tests.token_service import PATH, Service, add_users, administer, section, token_service, trust

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret", "sailor": "rope"}
RULES = [
    ("users", "$user/**", "all"),
    ("everybody", "public/*", "pull"),
    ("group:crew", "public/*", "pull,push"),
]


@pytest.fixture(scope="module")
def service(namespace: str) -> Iterator[Service]:
    with token_service(namespace, USERS) as found:
        set_up(found.folder / "config.yml")
        yield found


WRONG = {"Authorization": "Basic Y2FwdGFpbjp3cm9uZw=="}  # captain:wrong


def set_up(config: Path) -> None:
    administer(config, "group", "add", "crew")
    administer(config, "group", "join", "captain", "crew")
    for subject, pattern, actions in RULES:
        administer(config, "rule", "add", subject, pattern, actions)
    administer(config, "rule", "add", "--type", "registry", "user:captain", "catalog", "all")


def run(namespace: str, *words: str | Path, status: int = 0) -> str:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def images(namespace: str) -> Iterator[str]:
    """A registry for everybody, with something to copy from."""
    with registry(namespace, program=OURS) as found:
        push(found, "app", "1", busybox(small_layer("note")))
        yield f"docker://{found.address}/app:1"


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        pytest.param(DEBIANS, False, id="docker-registry 2, certificates"),
        pytest.param(THIRD, False, id="docker-registry 3, certificates", marks=NEEDS_THIRD),
        pytest.param(OURS, True, id="ours, keys"),
    ],
)
def test_skopeo_gets_what_the_rules_grant(
    namespace: str, service: Service, images: str, program: tuple[str, ...], keys: bool
) -> None:
    with registry(namespace, program=program, more=service.auth(keys)) as hub:
        there = f"docker://{hub.address}"
        copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
        inspect = ["skopeo", "inspect", "--tls-verify=false"]
        captain = ("captain:secret", "captain/deep/app", "public/app")
        sailor = ("sailor:rope", "sailor/app")
        for login, *names in (captain, sailor):
            for name in names:
                run(namespace, *copy, "--dest-creds", login, images, f"{there}/{name}:1")
                run(namespace, *inspect, "--creds", login, f"{there}/{name}:1")
        for name in ("captain/app", "public/app"):
            refused = run(
                *(namespace, *copy, "--dest-creds", "sailor:rope", images, f"{there}/{name}:2"),
                status=1,
            )
            assert "denied" in refused or "unauthorized" in refused
        run(namespace, *inspect, "--no-creds", f"{there}/public/app:1")
        run(namespace, *inspect, "--no-creds", f"{there}/captain/deep/app:1", status=1)
        wrong = run(
            *(namespace, *inspect, "--creds", "captain:wrong", f"{there}/public/app:1"), status=1
        )
        assert "incorrect username or password" in wrong or "unauthorized" in wrong
        delete = ["skopeo", "delete", "--tls-verify=false"]
        run(namespace, *delete, "--creds", "captain:secret", f"{there}/captain/deep/app:1")
        run(
            *(namespace, *delete, "--creds", "captain:secret", f"{there}/public/app:1"),
            status=1,
        )


@NEEDS_THIRD
def test_docker_registry_3_with_keys_takes_tokens_without_certificates(
    namespace: str, service: Service, images: str
) -> None:
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    login = ("--dest-creds", "captain:secret")
    bare = token_service(namespace, USERS, keys={"certificates": False})
    with bare as other, registry(namespace, program=THIRD, more=other.auth(True)) as hub:
        set_up(other.folder / "config.yml")
        there = f"docker://{hub.address}"
        run(namespace, *copy, *login, images, f"{there}/captain/app:1")
        refused = run(namespace, *copy, *login, images, f"{there}/sailor/app:1", status=1)
        assert "denied" in refused or "unauthorized" in refused
    with registry(namespace, program=THIRD, more=service.auth(True)) as hub:
        run(namespace, *copy, *login, images, f"docker://{hub.address}/captain/app:1", status=1)


def test_podman_logs_in_pushes_and_pulls(namespace: str, service: Service) -> None:
    with registry(namespace, program=OURS, more=service.auth()) as hub:
        place = scratch()
        podman = ["podman", "--root", place / "root", "--runroot", place / "run"]
        podman += ["--storage-driver", "vfs"]
        kept = ["--authfile", place / "auth.json", "--tls-verify=false"]
        with registry(namespace, program=OURS) as source:
            push(source, "app", "1", busybox(small_layer("note")))
            run(namespace, *podman, "pull", "--tls-verify=false", f"{source.address}/app:1")
            name = f"{hub.address}/captain/app:1"
            run(namespace, *podman, "tag", f"{source.address}/app:1", name)
        run(namespace, *podman, "push", *kept, name, status=125)
        login = ["login", *kept, "-u", "captain", "-p", "secret", hub.address]
        run(namespace, *podman, *login)
        run(namespace, *podman, "push", *kept, name)
        run(namespace, *podman, "rmi", "-af")
        run(namespace, *podman, "pull", *kept, name)
        assert name.rpartition(":")[0] in run(
            namespace, *podman, "search", *kept, f"{hub.address}/app"
        )
        run(namespace, *podman, "rmi", "-af")
        shutil.rmtree(place)


def test_docker_logs_in_with_a_refresh_token() -> None:
    with (
        running() as daemon,
        token_service(daemon.namespace, USERS) as service,
        registry(daemon.namespace, more=service.auth()) as theirs,
        registry(daemon.namespace, program=OURS, more=service.auth()) as ours,
        registry(daemon.namespace, program=OURS) as source,
    ):
        set_up(service.folder / "config.yml")
        push(source, "app", "1", busybox(small_layer("note"), Cmd=["true"]))

        def docker(*words: str, status: int = 0, stdin: str = "") -> str:
            done = subprocess.run(
                [*daemon.enter, daemon.programs["docker"], *words],
                env=daemon.environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == status, done.stderr
            return done.stdout + done.stderr

        for hub in (theirs, ours):
            name = f"{hub.address}/captain/app:1"
            docker("pull", f"{source.address}/app:1")
            docker("tag", f"{source.address}/app:1", name)
            login = ["login", "-u", "captain", "--password-stdin", hub.address]
            docker(*login, stdin="secret")
            kept = json.loads((daemon.folder / "config/config.json").read_text())
            assert kept["auths"][hub.address]["identitytoken"]
            docker("push", name)
            docker("rmi", name, f"{source.address}/app:1")
            docker("pull", name)
            docker("rmi", name)
        assert "incorrect username or password" in docker(*login, status=1, stdin="wrong")
        assert "captain" in service.run("session", "ls")
        service.run("session", "rm", "--user", "captain")
        # What the engine was given is valid for some minutes, so ask for something else.
        other = f"{hub.address}/captain/other:1"
        assert "log in again" in docker("pull", other, status=1)
        docker(*login, stdin="secret")
        assert "log in again" not in docker("pull", other, status=1)


def test_keys_rotate_under_registries_that_run(
    namespace: str, service: Service, images: str
) -> None:
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    copy += ["--dest-creds", "captain:secret", images]
    with (
        registry(namespace, more=service.auth()) as theirs,
        registry(namespace, program=OURS, more=service.auth(True)) as ours,
    ):
        for number in range(2):
            for hub in (theirs, ours):
                run(namespace, *copy, f"docker://{hub.address}/captain/app:{number}")
            new = service.run("key", "rotate", "--now").strip()
            assert service.run("key", "ls").split()[0] == new
        assert "were read anew" in ours.log


def test_one_process_is_registry_and_token_service(namespace: str, images: str) -> None:
    folder = scratch()
    config = folder / "accounts.yml"
    more = section(folder)
    config.write_text(json.dumps({"version": "0.1", **more}))
    add_users(config, USERS)
    set_up(config)
    port = 5987  # the realm names it; the namespace is ours
    auth = trust(folder, f"http://127.0.0.1:{port}{PATH}")
    more["audit"] = {"path": str(folder / "audit.log")}
    with registry(namespace, program=OURS, port=port, more={**more, **auth}) as hub:
        there = f"docker://{hub.address}/captain/app:1"
        copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
        run(namespace, *copy, "--dest-creds", "captain:secret", images, there)
        run(namespace, *copy, "--dest-creds", "sailor:rope", images, there, status=1)
        keys = hub.site.ask("GET", f"{PATH}/keys")
        assert keys.body == (folder / "tokens/keys/jwks.json").read_bytes()
        for _ in range(5):
            hub.site.ask("GET", f"{PATH}?service=our+registry", headers=WRONG)
        reply = hub.site.ask("GET", f"{PATH}?service=our+registry", headers=WRONG)
        assert reply.status == 429
        told = [json.loads(line) for line in (folder / "audit.log").read_text().splitlines()]
        found = {(line["action"], line["result"], line.get("user", "")) for line in told}
        assert {
            ("token", "done", "captain"),
            ("token", "done", "sailor"),
            ("token", "refused", "captain"),
            ("push", "done", "captain"),
        } <= found
    shutil.rmtree(folder)
