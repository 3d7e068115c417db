"""Ours and Debian's docker-registry side by side, on one storage and one Redis."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.netns import named
from tests.redis_server import RedisServer, redis_server
from tests.registries import DEBIANS, OURS, Registry, registry
from tests.remote_images import busybox, digest, push, small_layer
from tests.session import PATIENCE, eventually
from tests.wire import Site

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
PORT = 6379
CACHE = {"cache": {"blobdescriptor": "redis"}}
DEBUG = {"debug": {"addr": "127.0.0.1:5001", "prometheus": {"enabled": True}}}


@pytest.fixture
def namespace() -> Iterator[str]:
    with named() as name:
        yield name


@pytest.fixture
def server(namespace: str) -> Iterator[RedisServer]:
    with redis_server(namespace, PORT, appendonly="yes", appendfsync="always") as found:
        yield found


@dataclass
class Fleet:
    """Both, side by side."""

    namespace: str
    server: RedisServer
    storage: Path
    life: ExitStack

    def start(self, program: tuple[str, ...], cached: bool = True, **more: Any) -> Registry:
        sections = {"storage": CACHE, "redis": self.server.settings} if cached else {}
        return self.life.enter_context(
            registry(self.namespace, storage=self.storage, program=program, more=sections | more)
        )

    def collect(self, hub: Registry) -> None:
        """Collect by the command, while it does not run."""
        hub.stop()
        within = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable]
        program = [*within, *OURS[1:], "garbage-collect", str(hub.folder / "config.yml")]
        subprocess.run(program, check=True, timeout=60, capture_output=True)
        hub.start()


@pytest.fixture
def fleet(namespace: str, server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as life:
        yield Fleet(namespace, server, tmp_path / "storage", life)


def has(hub: Registry, name: str, blob: str) -> int:
    return hub.ask("HEAD", f"/v2/{name}/blobs/{blob}").status


def mount(hub: Registry, name: str, blob: str, source: str) -> int:
    path = f"/v2/{name}/blobs/uploads/?mount={blob}&from={source}"
    return hub.ask("POST", path, b"").status


def told_of(server: RedisServer, name: str, blob: str) -> int:
    """Count what the server has about a blob of a repository: three things, written in turn."""
    found = server.dump()
    there = (f"blobs::{blob}" in found, f"repository::{name}::blobs::{blob}" in found)
    return sum(there) + (blob in found.get(f"repository::{name}::blobs", ()))


def remove(hub: Registry, name: str, manifest: str) -> None:
    assert hub.ask("DELETE", f"/v2/{name}/manifests/{manifest}").status == 202


def test_descriptors_are_those_that_docker_registry_writes(
    fleet: Fleet, tmp_path: Path, namespace: str
) -> None:
    item = busybox()
    more = {"storage": CACHE, "redis": fleet.server.settings}
    with registry(namespace, storage=tmp_path / "theirs", more=more) as theirs:
        push(theirs, "team/app", "1", item)
        assert theirs.ask("GET", f"/v2/team/app/manifests/{item.digest}").status == 200
    told = fleet.server.dump()
    assert f"blobs::{item.digest}" in told
    with fleet.server.client() as client:
        client.flushall()
    push(fleet.start(OURS), "team/app", "1", item)
    eventually(lambda: fleet.server.dump() == told)


def test_without_it_docker_registry_answers_with_what_is_gone(fleet: Fleet) -> None:
    """What all of this is for: this registry does not know of the Redis."""
    theirs, ours = fleet.start(DEBIANS), fleet.start(OURS, cached=False)
    item = busybox()
    push(theirs, "team/app", "1", item)
    path, kind = f"/v2/team/app/manifests/{item.digest}", item.manifest.media_type
    assert theirs.ask("GET", path).status == 200
    ours.restart()
    blob = item.layers[0].digest
    remove(ours, "team/app", item.digest)
    fleet.collect(ours)
    assert has(ours, "team/app", blob) == 404
    assert has(theirs, "team/app", blob) == 200
    assert mount(theirs, "other", blob, "team/app") == 201
    reply = theirs.ask("PUT", path, item.manifest.content, {"Content-Type": kind})
    assert (reply.status, theirs.ask("GET", path).status) == (201, 404)


@pytest.mark.parametrize("pusher", ["ours", "theirs"])
def test_what_ours_collects_is_gone_for_docker_registry(fleet: Fleet, pusher: str) -> None:
    hubs = {"theirs": fleet.start(DEBIANS), "ours": fleet.start(OURS)}
    theirs, ours = hubs["theirs"], hubs["ours"]
    item, kept = busybox(small_layer("note")), busybox(small_layer("kept"))
    push(hubs[pusher], "team/app", "1", item)
    push(hubs[pusher], "team/app", "2", kept)
    ours.restart()  # rows follow files then
    blob = item.layers[-1].digest
    assert has(theirs, "team/app", blob) == 200
    remove(ours, "team/app", item.digest)
    fleet.collect(ours)
    for hub in (theirs, ours):
        assert has(hub, "team/app", blob) == 404
        assert has(hub, "team/app", kept.layers[-1].digest) == 200
        assert mount(hub, "other", blob, "team/app") == 202
    # docker-registry takes no content that it believes to have.
    push(theirs, "team/app", "1", item)
    reply = theirs.ask("GET", f"/v2/team/app/manifests/{item.digest}")
    assert (reply.status, digest(reply.body)) == (200, item.digest)
    assert theirs.ask("GET", f"/v2/team/app/blobs/{blob}").body == item.layers[-1].content


def test_a_blob_that_is_deleted_is_gone_for_docker_registry_at_once(fleet: Fleet) -> None:
    theirs, ours = fleet.start(DEBIANS), fleet.start(OURS)
    item = busybox()
    push(ours, "team/app", "1", item)
    push(ours, "other", "1", item)
    blob = item.layers[0].digest
    assert has(theirs, "team/app", blob) == 200
    assert ours.ask("DELETE", f"/v2/team/app/blobs/{blob}").status == 202
    assert (has(theirs, "team/app", blob), has(theirs, "other", blob)) == (404, 200)


def test_what_is_owed_is_paid_after_the_death_of_both(fleet: Fleet) -> None:
    theirs, ours = fleet.start(DEBIANS), fleet.start(OURS)
    item = busybox()
    push(ours, "team/app", "1", item)
    blob = item.layers[0].digest
    eventually(lambda: told_of(fleet.server, "team/app", blob) == 3)
    fleet.server.kill()
    assert ours.ask("DELETE", f"/v2/team/app/blobs/{blob}").status == 202
    push(ours, "other", "1", item)
    ours.kill()
    fleet.server.start()
    assert has(theirs, "team/app", blob) == 200
    ours.start()
    eventually(lambda: told_of(fleet.server, "team/app", blob) == 1)  # "other" has it
    assert has(theirs, "team/app", blob) == 404


def test_health_and_figures_tell_of_it(fleet: Fleet) -> None:
    ours = fleet.start(OURS, http=DEBUG)
    found = re.search(r"debug server listening 127\.0\.0\.1:(\d+)", ours.log)
    assert found
    debug = Site(fleet.namespace, port=int(found[1]))
    push(ours, "team/app", "1", busybox())
    eventually(lambda: b"registry_redis_up 1.0" in debug.ask("GET", "/metrics").body)
    assert debug.ask("GET", "/debug/health").json == {}
    fleet.server.kill()
    push(ours, "team/app", "2", busybox(small_layer("note")))
    eventually(lambda: "redis" in debug.ask("GET", "/debug/health").json)
    assert debug.ask("GET", "/debug/health").status == 200
    assert b"registry_redis_up 0.0" in debug.ask("GET", "/metrics").body
    assert ours.log.count("redis is left alone") == 1
    fleet.server.start()
    eventually(lambda: debug.ask("GET", "/debug/health").json == {})


# --- other ways to a Redis


def test_a_server_with_tls_wants_our_certificate(
    fleet: Fleet, namespace: str, tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, issued in (("server", ca.issue_cert("127.0.0.1")), ("client", ca.issue_cert("us"))):
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    options = {"tls_port": "6380", "tls_ca_cert_file": f"{tmp_path}/ca.pem"}
    files = {"tls_cert_file": f"{tmp_path}/server.pem", "tls_key_file": f"{tmp_path}/server.key"}
    tls = {"certificate": f"{tmp_path}/client.pem", "key": f"{tmp_path}/client.key"}
    with redis_server(namespace, **options, **files, requirepass="secret") as secured:
        there = {"addrs": ["127.0.0.1:6380"], "password": "secret"}
        trusting = {**there, "tls": {**tls, "rootcas": [f"{tmp_path}/ca.pem"]}}
        ours = fleet.start(OURS, redis=trusting)
        push(ours, "team/app", "1", busybox())
        with secured.client(password="secret") as client:
            eventually(lambda: client.exists("repository::team/app::blobs"))
        ours.stop()
        doubting = fleet.start(OURS, redis={**there, "tls": tls})
        eventually(lambda: "redis is left alone until it answers again" in doubting.log)
        assert "certificate verify failed" in doubting.log


def test_sentinels_say_who_the_master_is(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(redis_server(namespace, 7001))
        two = stack.enter_context(redis_server(namespace, 7002, replicaof="127.0.0.1 7001"))
        settings = tmp_path / "sentinel.conf"
        settings.write_text(
            f"port 7003\ndir {tmp_path}\nsentinel monitor fleet 127.0.0.1 7001 1\n"
            "sentinel down-after-milliseconds fleet 60000\n"
            "sentinel failover-timeout fleet 3000\n"
        )
        enter = ["nsenter", f"--net=/run/netns/{namespace}"]
        sentinel = subprocess.Popen(
            [*enter, "redis-server", settings, "--sentinel"], stdout=subprocess.DEVNULL
        )
        stack.callback(sentinel.wait)
        stack.callback(sentinel.terminate)
        with two.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        where = {"addrs": ["127.0.0.1:7003"], "mastername": "fleet"}
        ours = fleet.start(OURS, redis=where)
        push(ours, "team/app", "1", busybox())
        with one.client() as client:
            eventually(lambda: client.exists("repository::team/app::blobs"))
        with two.client() as client:
            eventually(lambda: client.exists("repository::team/app::blobs"))
            eventually(lambda: "7002" in _sentinel(namespace, "replicas", "fleet"))
            # Only now: a master that is late on a busy machine is not to be given up.
            _sentinel(namespace, "set", "fleet", "down-after-milliseconds", "1000")
            one.kill()
            # A sentinel that was stopped for two seconds trusts its clock again after thirty.
            eventually(lambda: client.info("replication")["role"] == "master", 3 * PATIENCE)
            blob = busybox().layers[0].digest
            assert ours.ask("DELETE", f"/v2/team/app/blobs/{blob}").status == 202
            eventually(lambda: not client.sismember("repository::team/app::blobs", blob))


def _sentinel(namespace: str, *words: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "redis-cli", "-p", "7003"]
        + ["sentinel", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout


def test_a_cluster_has_each_key_where_it_belongs(fleet: Fleet, namespace: str) -> None:
    ports = (7001, 7002, 7003)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(redis_server(namespace, port, cluster_enabled="yes"))
            for port in ports
        ]
        enter = ["nsenter", f"--net=/run/netns/{namespace}", "redis-cli"]
        listed = [f"127.0.0.1:{port}" for port in ports]
        create = [*enter, "--cluster", "create", *listed, "--cluster-yes"]
        subprocess.run(create, check=True, timeout=60, capture_output=True)
        for node in nodes:
            with node.client() as client:
                eventually(lambda: client.cluster("info")["cluster_state"] == "ok")
        ours = fleet.start(OURS, redis={"addrs": listed})
        item = busybox(small_layer("a"), small_layer("b"))
        push(ours, "team/app", "1", item)
        push(ours, "other", "1", item)

        def keys() -> set[str]:
            found: set[str] = set()
            for node in nodes:
                with node.client() as client:
                    found |= set(client.keys())
            return found

        blobs = {item.config.digest, *(layer.digest for layer in item.layers)}
        told = {f"blobs::{blob}" for blob in {*blobs, item.digest}}
        for name in ("team/app", "other"):
            told |= {f"repository::{name}::blobs::{blob}" for blob in blobs}
            told.add(f"repository::{name}::blobs")
        eventually(lambda: keys() == told)
        for name in ("team/app", "other"):
            remove(ours, name, item.digest)
        fleet.collect(ours)
        eventually(lambda: keys() == set())
