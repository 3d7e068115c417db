"""Bad days of images: daemons and helpers killed at any point, full disks, clients that go, locks.

After each: no half image is visible, the checker of the store finds nothing, and the next attempt
goes on from what was complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import lying_registry as lies
from tests import ordeals
from tests.api.test_images import saved
from tests.daemon import Daemon, running
from tests.lying_registry import LyingRegistry, lying_registry
from tests.ordeals import (
    check,
    complete,
    credentials,
    is_visible,
    meanwhile,
    names,
    pull,
    push,
    tag,
)
from tests.registries import OUTSIDE, registry
from tests.remote_images import Image, busybox, layer
from tests.remote_images import push as store
from tests.session import eventually
from tests.tarballs import archive, file
from tests.tokens import token_server

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(scope="module")
def mortal() -> Iterator[Daemon]:
    """A daemon that tests may kill."""
    with running() as daemon:
        yield daemon


@pytest.fixture
def daemon(mortal: Daemon) -> Iterator[Daemon]:
    before = ordeals.at_rest(mortal)
    yield mortal
    ordeals.forget(mortal)
    ordeals.settles(mortal, before)
    check(mortal)


@pytest.fixture
def liar(daemon: Daemon) -> Iterator[LyingRegistry]:
    with lying_registry(daemon.namespace) as liar:
        yield liar


def revive(daemon: Daemon) -> None:
    """Kill the daemon with all its helpers, and start it again."""
    daemon.kill()
    daemon.start()


def noise_layer(name: str, size: int, files: int = 1) -> Any:
    """Return a layer that no compression makes smaller."""
    members = (file(f"{name}/{n}", os.urandom(size // files)) for n in range(files))
    return layer(archive(*members), "")


def large(name: str = "noise") -> Image:
    """Return an image of three layers of 4 MiB and many files."""
    return busybox(*(noise_layer(f"{name}{n}", 4 * MIB, 400) for n in range(3)))


# --- killed while it pulls -------------------------------------------------------------------


POINTS = ["manifest", "configuration", "layer begun", "layer half", "layer all but done"]


@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_killed_at_a_chosen_point_of_a_pull_goes_on_from_there(
    daemon: Daemon, liar: LyingRegistry, point: str
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    top = made.layers[-1]
    parts = {"manifest": ("/manifests/", 0), "configuration": (made.config.digest, 0)}
    size = len(top.content)
    ends = {"layer begun": 0, "layer half": size // 2, "layer all but done": size - 1}
    part, after = parts.get(point) or (top.digest, ends[point])
    release = threading.Event()
    liar.lie("GET", part, lies.held_until(release, after))
    name = f"{liar.address}/a/b:1"
    below = [item.digest for item in made.layers[:-1]]
    with meanwhile(lambda: pull(daemon, name)):
        eventually(lambda: liar.log.count("GET", part))
        if "layer" in point:
            eventually(lambda: complete(daemon) == len(below))
        daemon.kill()
        release.set()
    liar.be_honest()
    daemon.start()
    assert names(daemon) == set()
    check(daemon)
    liar.log.clear()
    assert pull(daemon, name).error == ""
    fetched = [digest for digest in below if liar.log.count("GET", digest)]
    assert fetched == ([] if "layer" in point else below)
    check(daemon)


def until_done(daemon: Daemon, attempt: Callable[[], Any], done: Callable[[], bool]) -> int:
    """Kill the daemon after random times until an attempt succeeds; return how many it took.

    Each time it may live a little longer.
    """
    patience = 0.05
    for tries in range(1, 40):
        with meanwhile(attempt):
            time.sleep(random.uniform(patience / 2, patience))
            daemon.kill()
        daemon.start()
        check(daemon)
        if done():
            return tries
        patience *= 1.6
    raise AssertionError("it never succeeded")


def test_a_pull_that_is_killed_again_and_again_comes_to_an_end(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    name = f"{liar.address}/a/b:1"
    until_done(daemon, lambda: pull(daemon, name), lambda: is_visible(daemon, name))
    assert daemon.request("GET", f"/images/{name}/json").json["Id"] == made.id
    assert run(daemon, name, "cat", "/noise0/1") == 0


def run(daemon: Daemon, image: str, *command: str) -> int:
    """Run a container; return its exit code."""
    wanted = {"Image": image, "Cmd": list(command), "HostConfig": {"NetworkMode": "none"}}
    container = daemon.request("POST", "/containers/create", wanted).json["Id"]
    assert daemon.request("POST", f"/containers/{container}/start").status == 204
    code: int = daemon.request("POST", f"/containers/{container}/wait").json["StatusCode"]
    daemon.request("DELETE", f"/containers/{container}")
    return code


def test_a_push_that_is_killed_again_and_again_comes_to_an_end(daemon: Daemon) -> None:
    with registry(daemon.namespace) as source, registry(daemon.namespace) as hub:
        store(source, "a/b", "1", made := large())
        name, target = f"{source.address}/a/b:1", f"{hub.address}/c/d:1"
        assert pull(daemon, name).error == ""
        tag(daemon, name, target)
        until_done(daemon, lambda: push(daemon, target), lambda: hub.tags("c/d") == ["1"])
        seen = hub.ask("GET", "/v2/c/d/manifests/1", headers={"Accept": made.manifest.media_type})
        config = json.loads(seen.body)["config"]["digest"]
        assert config == made.id


def test_a_load_that_is_killed_again_and_again_comes_to_an_end(daemon: Daemon) -> None:
    content = archive(*(file(f"f{n}", os.urandom(20_000)) for n in range(400)))
    whole = saved(content, "loaded:1")
    until_done(daemon, lambda: ordeals.load(daemon, whole), lambda: is_visible(daemon, "loaded:1"))


def test_an_import_that_is_killed_again_and_again_comes_to_an_end(daemon: Daemon) -> None:
    content = archive(*(file(f"f{n}", os.urandom(20_000)) for n in range(400)))
    until_done(
        daemon,
        lambda: ordeals.import_(daemon, content, "imported"),
        lambda: is_visible(daemon, "imported:1"),
    )


@pytest.mark.parametrize("how", ["rmi", "prune"])
def test_a_removal_that_is_killed_leaves_all_or_nothing(
    daemon: Daemon, liar: LyingRegistry, how: str
) -> None:
    made = busybox(*(noise_layer(f"n{n}", MIB // 4, 50) for n in range(20)))
    store(liar, "a/b", "1", made)
    name = f"{liar.address}/a/b:1"
    prune = '/images/prune?filters={"dangling":["false"]}'
    before = ordeals.at_rest(daemon)
    for _ in range(3):
        assert pull(daemon, name).error == ""

        def remove() -> None:
            if how == "rmi":
                daemon.request("DELETE", f"/images/{name}")
            else:
                daemon.request("POST", prune)

        until_done(daemon, remove, lambda: not is_visible(daemon, name))
        ordeals.settles(daemon, before)


# --- helpers, clients and registries that go -------------------------------------------------


def test_a_storage_helper_killed_while_layers_are_unpacked_costs_one_pull(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    name, release = f"{liar.address}/a/b:1", threading.Event()
    top = made.layers[-1]
    liar.lie("GET", top.digest, lies.held_until(release, len(top.content) // 2))
    with meanwhile(lambda: pull(daemon, name)) as pulling:
        eventually(lambda: complete(daemon) == len(made.layers) - 1)
        for pid in ordeals.storage_helpers(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        release.set()
        ended = pulling.result(30)
    liar.be_honest()
    assert ended.error == "" or not is_visible(daemon, name)

    def healthy() -> bool:
        return daemon.request("GET", "/_ping").status == 200 and pull(daemon, name).error == ""

    eventually(healthy)
    assert run(daemon, name, "cat", "/noise2/1") == 0


def test_a_client_that_goes_stops_its_pull_and_the_next_goes_on(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    release = threading.Event()
    top = made.layers[-1]
    liar.lie("GET", top.digest, lies.held_until(release, len(top.content) // 2))
    before = set(daemon.processes())
    with contextlib.closing(daemon.connect()) as client:
        path = f"/images/create?fromImage={liar.address}/a/b&tag=1"
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        eventually(lambda: complete(daemon) == len(made.layers) - 1)
    eventually(lambda: set(daemon.processes()) <= before)  # nobody unpacks any more
    release.set()
    assert names(daemon) == set()
    liar.be_honest()
    liar.log.clear()
    assert pull(daemon, f"{liar.address}/a/b:1").error == ""
    assert [liar.log.count("GET", item.digest) for item in made.layers] == [0, 0, 0, 1]


def test_a_second_client_keeps_a_pull_alive_that_the_first_one_left(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    release = threading.Event()
    top = made.layers[-1]
    liar.lie("GET", top.digest, lies.held_until(release, len(top.content) // 2), times=1)
    path = f"/images/create?fromImage={liar.address}/a/b&tag=1"
    asked = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    with contextlib.closing(daemon.connect()) as first, contextlib.closing(daemon.connect()) as two:
        for client in (first, two):
            client.sendall(asked)
            said = b""
            while not re.search(b'"Downloading"[^\n]*"id":"%s"' % top.digest[7:19].encode(), said):
                said += client.recv(1 << 16)
        first.close()
        release.set()
        while b"Status: Downloaded newer image" not in said:
            said += two.recv(1 << 16)
    assert liar.log.count("GET", top.digest) == 1


def test_a_registry_that_is_restarted_in_the_middle_costs_nothing() -> None:
    made = busybox(*(noise_layer(f"n{n}", 8 * MIB) for n in range(6)))
    patient = running("--max-download-attempts", "8")  # five are over in four seconds
    with patient as daemon, registry(daemon.namespace) as hub:
        store(hub, "a/b", "1", made)
        hub.forget()
        name = f"{hub.address}/a/b:1"
        with meanwhile(lambda: pull(daemon, name)) as pulling:
            eventually(lambda: hub.accesses(made.layers[0].digest))
            hub.restart()
            assert pulling.result(60).error == ""
        target = f"{hub.address}/c/d:1"
        tag(daemon, name, target)
        check(daemon)


def test_many_clients_that_want_one_image_fetch_it_once(
    daemon: Daemon, liar: LyingRegistry
) -> None:
    made = large()
    store(liar, "a/b", "1", made)
    name = f"{liar.address}/a/b:1"
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(pull(daemon, name).error)) for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [""] * 60
    assert [liar.log.count("GET", item.digest) for item in made.layers] == [1] * 4


# --- full disks ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["pull", "load", "import"])
def test_a_disk_that_is_too_small_is_one_clear_error_and_nothing_stays(what: str) -> None:
    with running(data_size="64m") as daemon, lying_registry(daemon.namespace) as liar:
        before = ordeals.at_rest(daemon)
        if what == "pull":
            store(liar, "a/b", "1", busybox(*(noise_layer(f"n{n}", 40 * MIB) for n in range(2))))
            ended = pull(daemon, f"{liar.address}/a/b:1")
        else:
            content = archive(*(file(f"f{n}", os.urandom(MIB)) for n in range(80)))
            if what == "load":
                ended = ordeals.load(daemon, saved(content, "big:1"))
            else:
                ended = ordeals.import_(daemon, content, "big")
        assert "no space left on device" in ended.error.lower()
        assert names(daemon) == set()
        check(daemon)
        ordeals.forget(daemon)
        ordeals.settles(daemon, before)
        small = busybox()
        store(liar, "a/small", "1", small)
        assert pull(daemon, f"{liar.address}/a/small:1").error == ""
        assert run(daemon, f"{liar.address}/a/small:1", "true") == 0


# --- certificates and credentials ------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_refused(daemon: Daemon) -> None:
    with registry(daemon.namespace, host=OUTSIDE, tls=True) as hub:
        store(hub, "a/b", "1", busybox())
        ended = pull(daemon, f"{hub.address}/a/b:1")
        assert ended.status == 500
        assert "certificate signed by unknown authority" in ended.error
        assert names(daemon) == set()


def test_wrong_credentials_are_one_clear_error(daemon: Daemon) -> None:
    users = {"captain": "secret"}
    with registry(daemon.namespace, users=users) as hub:
        store(hub, "a/b", "1", busybox())
        name = f"{hub.address}/a/b:1"
        for auth in ("", credentials("captain", "wrong"), credentials("nobody", "secret")):
            ended = pull(daemon, name, auth=auth)
            assert ended.status in (401, 403, 404, 500)
            assert "no basic auth credentials" in ended.error or "unauthorized" in ended.error
        assert pull(daemon, name, auth=credentials("captain", "secret")).error == ""
        tag(daemon, name, f"{hub.address}/a/c:1")
        ended = push(daemon, f"{hub.address}/a/c:1")
        assert "no basic auth credentials" in ended.error or "unauthorized" in ended.error


def test_what_one_user_pulled_another_does_not_get_without_rights(daemon: Daemon) -> None:
    users = {"captain": "secret", "mate": "other"}
    with (
        token_server(daemon.namespace, users) as tokens,
        registry(daemon.namespace, tokens=tokens) as hub,
    ):
        tokens.rule = lambda user, kind, name: frozenset(
            {"pull", "push"} if user == "captain" else ()
        )
        store(hub, "a/b", "1", busybox())
        name = f"{hub.address}/a/b:1"
        ended = pull(daemon, name, auth=credentials("mate", "other"))
        assert "pull access denied" in ended.error or "denied" in ended.error
        assert pull(daemon, name, auth=credentials("captain", "secret")).error == ""


def test_tokens_that_are_never_valid_end_in_one_error(daemon: Daemon) -> None:
    with (
        token_server(daemon.namespace) as tokens,
        registry(daemon.namespace, tokens=tokens) as hub,
    ):
        store(hub, "public/b", "1", busybox())
        tokens.expired = 1_000_000
        ended = pull(daemon, f"{hub.address}/public/b:1")
        assert "unauthorized" in ended.error
        assert len(tokens.requests) < 10
        tokens.expired = 0
        assert pull(daemon, f"{hub.address}/public/b:1").error == ""
        tokens.fail = 503
        ended = pull(daemon, f"{hub.address}/public/other:1")
        assert ended.error
