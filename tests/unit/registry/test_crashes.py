"""kill -9 amid pushes, deletes and collections: what was acknowledged is there, and whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from tests.own_registry import manifest, serving, sha

pytestmark = pytest.mark.slow
TAGS = 5


def work(root: str) -> None:
    """Push, remove and collect for ever; write a line before and after each change."""
    with Registry.on_filesystem(root) as registry, serving(registry) as shop:
        for number in range(1 << 30):
            tag = f"t{number % TAGS}"
            if number % 4 == 3:
                print(json.dumps(["doubt", tag]), flush=True)
                answer = shop.ask("DELETE", f"/v2/a/manifests/{tag}")
                assert answer.status in (202, 404)
                print(json.dumps(["gone", tag]), flush=True)
                registry.collector.collect(-1, untagged=True)
                continue
            layers = [b"layer %d" % number, b"shared"]
            digests = [shop.push_blob("a", layer) for layer in layers]
            shop.push_blob("a", b"{}")
            body = manifest(digests, layers)
            print(json.dumps(["doubt", tag]), flush=True)
            assert shop.put("a", tag, body).status == 201
            print(json.dumps(["there", tag, sha(body)]), flush=True)


def _changes(lines: list[bytes]) -> dict[str, str | None]:
    """Return what each tag must be: a digest, empty for none, None where it may be either."""
    wanted: dict[str, str | None] = {}
    for line in lines:
        kind, tag, *digest = json.loads(line)
        wanted[tag] = {"doubt": None, "gone": ""}.get(kind, digest[0] if digest else "")
    return wanted


@pytest.mark.parametrize("count", [7, 20, 41, 66])
def test_what_was_acknowledged_outlasts_a_kill(tmp_path: Path, count: int) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=place) as child:
        assert child.stdout
        lines = [child.stdout.readline() for _ in range(count)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines()
    lines += [line for line in rest if line.endswith(b"]")]
    with Registry.on_filesystem(str(tmp_path)) as registry, serving(registry) as shop:
        tags = shop.tags("a")
        for tag, digest in _changes(lines).items():
            if digest is not None:
                assert (tag in tags) == bool(digest)
        for tag in tags:
            answer = shop.get(f"/v2/a/manifests/{tag}")
            assert sha(answer.body) == answer.header("docker-content-digest")
            wanted = _changes(lines).get(tag)
            assert wanted is None or sha(answer.body) == wanted
            for part in answer.json["layers"]:
                assert sha(shop.get(f"/v2/a/blobs/{part['digest']}").body) == part["digest"]
        registry.collector.collect(-1, untagged=True)
        assert shop.tags("a") == tags


if __name__ == "__main__":
    work(sys.argv[1])
