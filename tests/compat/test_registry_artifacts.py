"""What is no image, on our registry: artifacts of oras, signatures of sigstore, charts of helm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oras.client import OrasClient
from oras.oci import Subject

from tests.netns import named
from tests.registries import OURS, OUTSIDE, Registry, registry
from tests.remote_images import image, push, small_layer
from tests.stores import NODE_MODULES
from tests.token_service import registry_with_tokens
from tests.wire import within

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
USERS = {"captain": "secret"}
KINDS = ("plain", "passwords", "tokens")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture(scope="module", params=KINDS)
def hub(request: pytest.FixtureRequest) -> Iterator[Registry]:
    """A registry of ours; of "tokens" it is its own token service."""
    with named() as namespace:
        if request.param == "plain":
            running = registry(namespace, program=OURS)
        elif request.param == "passwords":
            running = registry(namespace, program=OURS, host=OUTSIDE, tls=True, users=USERS)
        else:
            running = registry_with_tokens(namespace, USERS)
        with running as found:
            yield found


@pytest.fixture
def authority(hub: Registry, tmp_path: Path) -> str:
    """The file with the registry's authority; empty if it has none."""
    if not hub.authority:
        return ""
    (tmp_path / "authority.pem").write_bytes(hub.authority.certificate)
    return str(tmp_path / "authority.pem")


def referrers(hub: Registry, name: str, digest: str) -> list[dict[str, Any]]:
    reply = hub.ask("GET", f"/v2/{name}/referrers/{digest}", headers=hub.authorization(name))
    return list(reply.json["manifests"])


# --- oras


@pytest.fixture
def oras(hub: Registry, authority: str, tmp_path: Path) -> Iterator[OrasClient]:
    """The library, logged in as it wants to be, in a folder that is empty."""
    kept = Path.cwd()
    os.chdir(tmp_path)  # it takes files below its working directory only
    basic = "basic" if hub.users else "token"
    client = OrasClient(insecure=not authority, tls_verify=authority or True, auth_backend=basic)
    try:
        if hub.users:
            client.auth.set_basic_auth("captain", "secret")
        if hub.tokens:  # it would keep its first token, which may only pull
            names = ("captain/notes", "captain/subjects")
            scopes = [f"repository:{name}:pull,push,delete" for name in names]
            client.auth.set_token_auth(hub.tokens.token("captain", scopes))
        yield client
    finally:
        client.session.close()
        os.chdir(kept)


def test_oras_pushes_files_whole_and_in_pieces_and_pulls_them(
    hub: Registry, oras: OrasClient, tmp_path: Path
) -> None:
    there = f"{hub.address}/captain/notes"
    contents = {"log.txt": b"all is well", "chart.bin": os.urandom(3_000_000)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with within(hub.site.namespace):
        oras.push(f"{there}:1", files=list(contents), quiet=True)
        oras.push(f"{there}:2", files=["chart.bin"], do_chunked=True, chunk_size=1_000_000)
        assert sorted(oras.get_tags(there)) == ["1", "2"]
        for tag, names in (("1", list(contents)), ("2", ["chart.bin"])):
            oras.pull(f"{there}:{tag}", outdir=str(tmp_path / tag))
            found = {path.name: path.read_bytes() for path in (tmp_path / tag).iterdir()}
            assert found == {name: contents[name] for name in names}
        assert oras.delete_tags(there, ["2"]) == ["2"]
    assert hub.tags("captain/notes") == ["1"]


def test_oras_attaches_to_what_is_there(hub: Registry, oras: OrasClient, tmp_path: Path) -> None:
    item = image(small_layer("subject"))
    push(hub, "captain/subjects", "image", item)
    (tmp_path / "sbom.json").write_text("{}")
    about = Subject(item.manifest.media_type, item.digest, len(item.manifest.content))
    with within(hub.site.namespace):
        reply = oras.push(
            f"{hub.address}/captain/subjects:sbom", files=["sbom.json"], subject=about, quiet=True
        )
    assert reply.headers["OCI-Subject"] == item.digest
    (found,) = referrers(hub, "captain/subjects", item.digest)
    assert found["digest"] == reply.headers["Docker-Content-Digest"]


# --- sigstore

ATTACH = """
const {attachArtifactToImage, getImageDigest} = require('@sigstore/oci');
const [imageName, tag, username, password, mediaType] = process.argv.slice(1);
const credentials = {username, password};
getImageDigest({imageName, imageTag: tag, credentials})
  .then(imageDigest => attachArtifactToImage({imageName, imageDigest, credentials, mediaType,
    artifact: Buffer.from('a bundle'), annotations: {'dev.sigstore.bundle.content': 'test'}}))
  .then(found => console.log(JSON.stringify(found)));
"""


@pytest.mark.parametrize("hub", ["passwords", "tokens"], indirect=True)
def test_sigstore_attaches_a_bundle_to_an_image(hub: Registry, authority: str) -> None:
    if not (NODE_MODULES / "@sigstore/oci").exists():
        pytest.skip("@sigstore/oci is not installed: packaging/prepare check needs npm for it")
    name = "captain/signed"
    item = image(small_layer("signed"))
    push(hub, name, "1", item)
    words = ["--", f"{hub.address}/{name}", "1", "captain", "secret", BUNDLE]
    trusting = {"NODE_PATH": str(NODE_MODULES), "NODE_EXTRA_CA_CERTS": authority}
    with within(hub.site.namespace):
        done = subprocess.run(
            ["node", "-e", ATTACH, *words],
            env={**os.environ, **trusting},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["subjectDigest"] == item.digest  # else it would keep a list below a tag
    (found,) = referrers(hub, name, item.digest)
    assert (found["digest"], found["artifactType"]) == (told["digest"], BUNDLE)
    assert found["annotations"]["dev.sigstore.bundle.content"] == "test"
    assert hub.tags(name) == ["1"]


# --- helm

CHARTS = """
import json, sys
from pathlib import Path
import helm_python as helm

address, plain, login, password = sys.argv[1], sys.argv[2] == "plain", *sys.argv[3:]
how = {"plain_http": True} if plain else {}
place = f"oci://{address}/captain/charts"
for version in ("1.0.0", "1.1.0+build.5"):
    folder = Path("boat")
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\\nname: boat\\nversion: {version}\\n")
    helm.package(str(folder), destination="packed")
with helm.RegistryClient(credentials_file="logins.json", **how) as client:
    def refused(call):
        try:
            call()
        except helm.HelmRegistryError as error:
            return str(error)
        raise AssertionError("helm got in")
    charts = sorted(Path("packed").iterdir())
    if login:
        refused(lambda: client.push(charts[0], place, **how))
        refused(lambda: client.login(address, login, "wrong", **how))
        client.login(address, login, password, **how)
    for chart in charts:
        client.push(chart, place, **how)
    Path("pulled").mkdir()
    client.pull(f"{place}/boat", version="~1.0.0", destination="pulled", **how)
    print(json.dumps(client.tags(f"{place}/boat")))
"""


@pytest.mark.wide
def test_helm_pushes_charts_and_finds_a_version(
    hub: Registry, authority: str, tmp_path: Path
) -> None:
    pytest.importorskip("helm_python", reason="packaging/prepare slow installs helm's library")
    login = ["captain", "secret"] if hub.users or hub.tokens else ["", ""]
    words = [hub.address, "tls" if authority else "plain", *login]
    with within(hub.site.namespace):  # as a process of its own: Go's threads stay where they were
        done = subprocess.run(
            [sys.executable, "-c", CHARTS, *words],
            env={**os.environ, "HOME": str(tmp_path), "SSL_CERT_FILE": authority},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["1.1.0+build.5", "1.0.0"]
    assert [path.name for path in (tmp_path / "pulled").iterdir()] == ["boat-1.0.0.tgz"]
    assert hub.tags("captain/charts/boat") == ["1.0.0", "1.1.0_build.5"]
