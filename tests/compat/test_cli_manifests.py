"""`manifest` beside docker's, on one registry: the same lists, bytes, files and words.

Docker's command line asks registries itself and ours asks the daemon, whose part is played here by
a few lines on the same registry.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_daemon import Asked, FakeDaemon, Replies, Reply, document, error
from tests.registries import Registry, registry
from tests.side_by_side import Case, environment, is_docker_28, level, programs

pytestmark = [
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.skipif(not is_docker_28(), reason="the docker CLI is not version 28"),
]

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = {"Accept": ", ".join((DOCKER, DOCKER_LIST, OCI, OCI_INDEX))}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def put_blob(hub: Registry, repository: str, content: bytes) -> dict[str, Any]:
    begun = hub.ask("POST", f"/v2/{repository}/blobs/uploads/")
    place = begun.headers["Location"].partition(hub.address)[2]
    reply = hub.ask("PUT", f"{place}&digest={digest(content)}", content)
    assert reply.status == 201, reply.body
    return {"digest": digest(content), "size": len(content)}


def put_image(hub: Registry, repository: str, tag: str, kind: str, **platform: Any) -> bytes:
    """Put an image there whose configuration names a platform; return its manifest."""
    oci = kind == OCI
    config = json.dumps({**platform, "rootfs": {}}).encode()
    layer = f"layer of {repository}:{tag}".encode()
    types = (
        ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        if oci
        else (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        )
    )
    descriptors = [
        {"mediaType": media_type, **put_blob(hub, repository, content)}
        for media_type, content in zip(types, (config, layer), strict=True)
    ]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": descriptors[0],
            "layers": descriptors[1:],
            **({"annotations": {"a": "<b>&c\u009b"}} if oci else {}),
        },
        indent=3,
    ).encode()
    put_manifest(hub, repository, tag, kind, manifest)
    return manifest


def put_manifest(hub: Registry, repository: str, tag: str, kind: str, content: bytes) -> None:
    path = f"/v2/{repository}/manifests/{tag}"
    reply = hub.ask("PUT", path, content, {"Content-Type": kind})
    assert reply.status == 201, reply.body


class Part:
    """The daemon's part: what it asks the registry for the command line."""

    def __init__(self, hub: Registry) -> None:
        self._hub = hub

    @property
    def replies(self) -> Replies:
        return {
            "GET /distribution/*": self.get,
            "PUT /distribution/*": self.put,
            "POST /distribution/*": self.mount,
        }

    def _path(self, asked: Asked) -> tuple[str, str, str]:
        """Return the repository, its tag or digest, and what is asked of it."""
        name, _, what = asked.path.removeprefix("/distribution/").rpartition("/")
        name = name.removeprefix(f"{self._hub.address}/")
        repository, at, wanted = name.partition("@")
        plain, colon, tag = repository.partition(":")
        return (plain if colon else repository), (wanted if at else tag), what

    def get(self, asked: Asked) -> Reply:
        repository, wanted, what = self._path(asked)
        reply = self._hub.ask("GET", f"/v2/{repository}/manifests/{wanted}", None, ACCEPT)
        if reply.status != 200:
            return error(404, f"manifest unknown: {wanted}")
        if what == "manifests":
            return Reply(200, [reply.body], {"Content-Type": reply.headers["Content-Type"]})
        config = json.loads(reply.body)["config"]["digest"]
        blob = self._hub.ask("GET", f"/v2/{repository}/blobs/{config}")
        platform = {
            name: value for name, value in json.loads(blob.body).items() if name != "rootfs"
        }
        return document({"Descriptor": {}, "Platforms": [platform]})

    def put(self, asked: Asked) -> Reply:
        repository, _, _ = self._path(asked)
        content = asked.raw
        tag = (asked.query.get("tag") or [digest(content)])[0]
        put_manifest(self._hub, repository, tag, asked.media_type, content)
        return Reply(201)

    def mount(self, asked: Asked) -> Reply:
        repository, _, _ = self._path(asked)
        source = asked.query["from"][0].removeprefix(f"{self._hub.address}/")
        query = f"mount={asked.query['digest'][0]}&from={source}"
        reply = self._hub.ask("POST", f"/v2/{repository}/blobs/uploads/?{query}")
        return Reply(201) if reply.status == 201 else error(404, "cannot be mounted")


@pytest.fixture(scope="module")
def hub() -> Iterator[Registry]:
    with registry() as hub:
        amd = put_image(hub, "a", "amd", DOCKER, architecture="amd64", os="linux")
        arm = put_image(
            hub, "a", "arm", DOCKER, architecture="arm", os="linux", variant="v7", x="y"
        )
        put_image(hub, "b", "oci", OCI, architecture="arm64", os="linux", variant="v8")
        put_image(hub, "b", "none", OCI)
        windows = {"architecture": "amd64", "os": "windows", "os.version": "10.0"}
        put_image(hub, "b", "win", OCI, **windows, **{"os.features": ["win32k"]})
        entries = [
            {"mediaType": DOCKER, "digest": digest(content), "size": len(content)}
            | {"platform": {"architecture": name, "os": "linux"}}
            for name, content in (("amd64", amd), ("arm", arm))
        ]
        content = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}
        put_manifest(hub, "a", "list", DOCKER_LIST, json.dumps(content).encode())
        yield hub


SCRIPTS = {
    "inspect": """
        manifest inspect --insecure HUB/a:amd
        manifest inspect --insecure -v HUB/a:amd
        manifest inspect --insecure HUB/a:arm
        manifest inspect --insecure -v HUB/a:arm
        manifest inspect --insecure HUB/b:oci
        manifest inspect --insecure -v HUB/b:win
        manifest inspect --insecure HUB/a:list
        manifest inspect --insecure -v HUB/a:list
        manifest inspect --insecure HUB/a:nosuch
        manifest inspect --insecure HUB/nosuch
        manifest inspect --insecure HUB/A
        manifest inspect --insecure nosuchlist HUB/a:amd
        manifest inspect
        manifest inspect a b c
    """,
    "a list of one repository": """
        manifest create --insecure HUB/a:new HUB/a:amd HUB/a:arm
        manifest create --insecure HUB/a:new HUB/a:amd
        manifest create --insecure --amend HUB/a:new HUB/a:amd
        manifest inspect --insecure HUB/a:new
        manifest inspect --insecure HUB/a:new HUB/a:arm
        manifest inspect --insecure -v HUB/a:new HUB/a:arm
        manifest annotate HUB/a:new HUB/a:arm --arch arm64 --variant v8 --os-features a,b
        manifest annotate HUB/a:new HUB/a:arm --os-version 1 --os-features b
        manifest annotate HUB/a:new HUB/a:arm --arch nosuch
        manifest annotate HUB/a:new HUB/a:nosuch --arch arm
        manifest annotate HUB/nosuch HUB/a:arm --arch arm
        manifest annotate A HUB/a:arm --arch arm
        manifest annotate a A --arch arm
        manifest inspect --insecure HUB/a:new
        manifest inspect --insecure -v HUB/a:new
        manifest push --insecure HUB/a:new
        manifest push --insecure --purge HUB/a:new
        manifest inspect --insecure HUB/a:new
        manifest push --insecure HUB/a:new
    """,
    "a list of other repositories": """
        manifest create --insecure HUB/c:new HUB/b:oci HUB/a:amd HUB/b:win
        manifest push --insecure HUB/c:new
        manifest rm HUB/c:new
        manifest inspect --insecure HUB/c:new
        manifest rm HUB/c:new nosuch A
    """,
    "lists that cannot be": """
        manifest create --insecure HUB/c:bad HUB/b:none
        manifest push --insecure HUB/c:bad
        manifest create --insecure HUB/c:deep HUB/a:list
        manifest create --insecure HUB/c:x HUB/a:nosuch
        manifest create --insecure A HUB/a:amd
        manifest create --insecure other.example.com/x HUB/a:amd
        manifest inspect other.example.com/x
        manifest push other.example.com/x
        manifest create --insecure HUB/c
        manifest push
        manifest rm
    """,
}


def transcript(program: str, script: str, hub: Registry, folder: Path) -> list[tuple[Any, ...]]:
    daemon_folder = folder / "daemon"
    daemon_folder.mkdir(parents=True)
    found: list[tuple[Any, ...]] = []
    with FakeDaemon(daemon_folder, Part(hub).replies).serving() as daemon:
        env = environment(folder, daemon, Case(""))
        for line in filter(None, map(str.strip, script.splitlines())):
            result = subprocess.run(
                [programs()[program], *shlex.split(line.replace("HUB", hub.address))],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            out, err = level(result.stdout, folder), level(result.stderr, folder)
            out = out.replace("\u009b", "\\u009b")  # ours does not let it through
            found.append((line, result.returncode, out, err, kept(folder / "config/manifests")))
    return found


def kept(folder: Path) -> dict[str, Any]:
    """Return the lists that a program keeps."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_make_the_same_lists(name: str, hub: Registry, tmp_path: Path) -> None:
    ours = transcript("sampan", SCRIPTS[name], hub, tmp_path / "sampan")
    theirs = transcript("docker", SCRIPTS[name], hub, tmp_path / "docker")
    for our, their in zip(ours, theirs, strict=True):
        assert our == their


def test_each_goes_on_with_the_lists_of_the_other(hub: Registry, tmp_path: Path) -> None:
    (tmp_path / "daemon").mkdir()
    with FakeDaemon(tmp_path / "daemon", Part(hub).replies).serving() as daemon:
        env = environment(tmp_path, daemon, Case(""))

        def run(program: str, line: str) -> str:
            words = shlex.split(line.replace("HUB", hub.address))
            result = subprocess.run(
                [programs()[program], "manifest", *words], env=env, capture_output=True, check=True
            )
            return result.stdout.decode()

        run("docker", "create --insecure HUB/d:both HUB/a:amd")
        run("sampan", "create --amend HUB/d:both HUB/a:arm")
        run("docker", "annotate HUB/d:both HUB/a:amd --variant v2")
        run("sampan", "annotate HUB/d:both HUB/a:arm --variant v6")
        assert run("docker", "inspect --insecure HUB/d:both") == run(
            "sampan", "inspect --insecure HUB/d:both"
        )
        pushed = run("sampan", "push --purge HUB/d:both").splitlines()[-1]
    reply = hub.ask("GET", "/v2/d/manifests/both", None, ACCEPT)
    assert digest(reply.body) == pushed
    platforms = [entry["platform"] for entry in json.loads(reply.body)["manifests"]]
    assert [platform["variant"] for platform in platforms] == ["v2", "v6"]
