"""Retention, scrubbing, quotas and the audit log of our registry, by command while it serves."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sampan.registryd.main import main
from sampan.spec.image import MEDIA_DOCKER_MANIFEST
from tests.registries import OURS, Registry, registry
from tests.remote_images import busybox, image, push, small_layer
from tests.session import eventually

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
ACCEPT = {"Accept": MEDIA_DOCKER_MANIFEST}


@pytest.fixture
def hub(namespace: str, tmp_path: Path) -> Iterator[Registry]:
    (tmp_path / "key").write_text("0123456789abcdef")
    more = {
        "retention": {
            "rules": [{"repositories": ["team/**"], "keeplast": 2, "protected": ["keep*"]}]
        },
        "quotas": [{"repositories": "small/*", "size": "1MiB", "tags": 5}],
        "scrub": {"rate": "0"},
        "audit": {"path": str(tmp_path / "audit.log"), "keyfile": str(tmp_path / "key")},
    }
    with registry(namespace, program=OURS, more=more) as found:
        yield found


def run(hub: Registry, *words: str, status: int = 0) -> list[str]:
    out = io.StringIO()
    operand = ["-c"] if words[0] == "audit" else []
    with redirect_stdout(out), redirect_stderr(out):
        found = main([*words, *operand, str(hub.folder / "config.yml")])
    assert found == status, out.getvalue()
    return [line for line in out.getvalue().splitlines() if "is not used" not in line]


def test_retention_removes_what_is_not_kept(hub: Registry, tmp_path: Path) -> None:
    for tag in ("keep-1", "1", "2", "3"):
        push(hub, "team/app", tag, image(small_layer(tag)))
    push(hub, "other/app", "1", busybox())
    assert "tag 1 of team/app would be removed" in run(hub, "retention", "--dry-run")[0]
    assert hub.tags("team/app") == ["1", "2", "3", "keep-1"]
    assert "tag 1 of team/app is removed" in run(hub, "retention")[0]
    assert hub.tags("team/app") == ["2", "3", "keep-1"]
    assert run(hub, "retention") == ["nothing to remove"]
    push(hub, "team/app", "4", image(small_layer("4")))
    hub.stop()
    assert "tag 2 of team/app is removed" in run(hub, "retention")[-1]
    assert run(hub, "audit") == ["ok"]
    log = (tmp_path / "audit.log").read_text()
    assert log.count('"action":"retention"') == 2
    (tmp_path / "audit.log").write_text(log.replace("team/app", "team/apple", 1))
    assert run(hub, "audit", status=1)


def test_what_is_damaged_is_found_and_mended_by_a_push(hub: Registry) -> None:
    item = busybox(small_layer("note"))
    push(hub, "team/app", "1", item)
    assert run(hub, "scrub")[-1].endswith(" 0 damaged")
    (path,) = sorted(hub.storage.glob("docker/registry/v2/blobs/*/*/*/data"))[:1]
    digest = f"sha256:{path.parent.name}"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = run(hub, "scrub", "--report", "--rate", "100MB", status=1)
    assert found[0].startswith(f"{digest}: its content is")
    assert "quarantine" not in found[0]
    found = run(hub, "scrub", status=1)
    assert found[0].endswith("(team/app); put into quarantine")
    eventually(lambda: digest in hub.log)
    kind = "manifests" if digest == item.digest else "blobs"
    assert hub.ask("HEAD", f"/v2/team/app/{kind}/{digest}").status == 404
    push(hub, "team/app", "1", item)
    assert hub.ask("GET", f"/v2/team/app/{kind}/{digest}").body == content
    assert run(hub, "scrub", "--rate", "fast", status=1) == [
        "sampan-registry: --rate: 'fast' is no size"
    ]


def test_garbage_is_collected_by_command_while_it_serves(hub: Registry, tmp_path: Path) -> None:
    push(hub, "team/app", "1", image(small_layer("old")))
    old = hub.ask("HEAD", "/v2/team/app/manifests/1").headers["Docker-Content-Digest"]
    hub.ask("DELETE", f"/v2/team/app/manifests/{old}")
    said = run(hub, "garbage-collect", "-m")
    assert said[-2:] == [
        "0 blobs and 0 manifests eligible for deletion, 0 bytes",
        "The registry serves: what was pushed or asked for in the last 86400 seconds stays."
        " See --delay.",
    ]
    refused = run(hub, "garbage-collect", "--delay", "1s", status=1)
    assert "at least a minute" in refused[-1]
    with sqlite3.connect(hub.storage / "sampan/registry.db") as database:
        database.execute("UPDATE blobs SET touched = touched - 3600")
    database.close()
    push(hub, "team/app", "2", image(small_layer("new")))
    dry = run(hub, "garbage-collect", "--delay", "30m", "--dry-run")
    assert run(hub, "garbage-collect", "--delay", "30m") == dry
    assert dry[-2].startswith("3 blobs and 0 manifests")
    assert run(hub, "garbage-collect", "--delay", "30m")[-2].startswith("0 blobs")
    assert hub.ask("GET", "/v2/team/app/manifests/2", headers=ACCEPT).status == 200
    assert (tmp_path / "audit.log").read_text().count('"action":"collect"') == 1
    hub.stop()
    assert run(hub, "garbage-collect", "-m")[-1].startswith("0 blobs and 0 manifests")


def test_quotas_are_told_and_kept(hub: Registry) -> None:
    push(hub, "small/app", "1", image(small_layer("x")))
    assert run(hub, "quotas")[0].startswith("small/app\t")
    assert run(hub, "quotas")[0].endswith("of 1.0 MiB\t1 of 5 tags")
    begun = hub.ask("POST", "/v2/small/app/blobs/uploads/").headers["Location"]
    place = begun.partition(hub.address)[2]
    reply = hub.ask("PATCH", place, b"x" * (2 << 20))
    assert reply.status == 403
    assert reply.json["errors"][0]["message"].startswith("the quota of small/* is 1.0 MiB")


def test_a_registry_that_was_killed_leaves_nothing_in_the_way(hub: Registry) -> None:
    push(hub, "team/app", "1", image(small_layer("x")))
    hub.kill()
    assert run(hub, "quotas") == []
    hub.start()
    assert run(hub, "retention") == ["nothing to remove"]


def test_it_is_done_by_itself(tmp_path: Path) -> None:
    rule = {"repositories": ["**"], "keeplast": 1}
    more = {
        "retention": {"interval": "50ms", "rules": [rule]},
        "scrub": {"enabled": True, "interval": "50ms", "rate": "0"},
        "audit": {"path": str(tmp_path / "audit.log")},
    }
    with registry(program=OURS, more=more) as hub:
        for tag in ("1", "2"):
            push(hub, "team/app", tag, image(small_layer(tag)))
        eventually(lambda: hub.tags("team/app") == ["2"])
        (path, *_) = hub.storage.glob("docker/registry/v2/blobs/*/*/*/data")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        eventually(lambda: '"action":"scrub"' in (tmp_path / "audit.log").read_text())
        eventually(lambda: f"sha256:{path.parent.name} is damaged" in hub.log)
        assert run(hub, "audit") == ["ok"]
