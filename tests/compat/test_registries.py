"""The registries of our tests are what other clients take for registries."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lying_registry as lies
from tests.registries import OUTSIDE, Registry, registry
from tests.remote_images import (
    FOREIGN,
    Index,
    busybox,
    image,
    index,
    layer,
    push,
    small_layer,
)
from tests.session import unique
from tests.tokens import token_server

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]

USERS = {"captain": "secret"}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A network namespace with a loopback interface."""
    name = unique()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def skopeo(namespace: str, *words: str | Path) -> str:
    enter = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    done = subprocess.run(
        [*enter, "skopeo", *map(str, words)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspect(hub: Registry, name: str, *options: str) -> dict[str, object]:
    url = f"docker://{hub.address}/{name}"
    found: dict[str, object] = json.loads(skopeo(hub.site.namespace, "inspect", *options, url))
    return found


def test_a_plain_registry_on_the_loopback_network_of_the_host() -> None:
    with registry() as hub:
        pushed = push(hub, "library/busybox", "latest", busybox())
        seen = inspect(hub, "library/busybox:latest", "--tls-verify=false")
        assert seen["Digest"] == pushed
        assert hub.tags("library/busybox") == ["latest"]
        hub.restart()
        hub.forget()
        assert hub.ask("GET", f"/v2/library/busybox/manifests/{pushed}").status == 200
        assert [(a.method, a.status) for a in hub.accesses("manifests")] == [("GET", 200)]


def test_a_registry_with_a_certificate_of_its_own(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True) as hub:
        assert hub.authority
        push(hub, "a/b", "1", image(small_layer("x")))
        (tmp_path / "ca.crt").write_bytes(hub.authority.certificate)
        assert inspect(hub, "a/b:1", f"--cert-dir={tmp_path}")["Name"] == f"{hub.address}/a/b"
        with pytest.raises(AssertionError, match="unknown authority"):
            inspect(hub, "a/b:1")


def test_a_registry_that_wants_certificates_of_clients(namespace: str, tmp_path: Path) -> None:
    with registry(namespace, host=OUTSIDE, tls=True, client_ca=True) as hub:
        assert hub.authority
        push(hub, "a/b", "1", image(small_layer("x")))
        certificate, key = hub.authority.client()
        (tmp_path / "ca.crt").write_bytes(hub.authority.certificate)
        with pytest.raises(AssertionError, match="certificate"):
            inspect(hub, "a/b:1", f"--cert-dir={tmp_path}")
        (tmp_path / "client.cert").write_bytes(certificate)
        (tmp_path / "client.key").write_bytes(key)
        assert inspect(hub, "a/b:1", f"--cert-dir={tmp_path}")["Name"] == f"{hub.address}/a/b"


def test_a_registry_with_users() -> None:
    with registry(users=USERS) as hub:
        push(hub, "a/b", "1", image(small_layer("x")))
        assert inspect(hub, "a/b:1", "--tls-verify=false", "--creds=captain:secret")
        for creds in (["--no-creds"], ["--creds=captain:wrong"]):
            with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
                inspect(hub, "a/b:1", "--tls-verify=false", *creds)


def test_a_registry_with_a_token_server() -> None:
    with token_server() as tokens, registry(tokens=tokens) as hub:
        push(hub, "a/b", "1", image(small_layer("x")))
        push(hub, "public/c", "1", image(small_layer("y")))
        options = ["--tls-verify=false", "--creds=captain:secret"]
        assert inspect(hub, "a/b:1", *options)
        assert tokens.requests[-1].user == "captain"
        assert "repository:a/b:pull" in tokens.requests[-1].scopes
        assert inspect(hub, "public/c:1", "--tls-verify=false", "--no-creds")
        with pytest.raises(AssertionError, match=r"denied|unauthorized"):
            inspect(hub, "a/b:1", "--tls-verify=false", "--no-creds")
        tokens.expired = 1
        with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
            inspect(hub, "a/b:1", *options)


def test_a_mirror_fetches_what_it_does_not_have() -> None:
    with registry() as hub, registry(mirror_of=hub.url) as mirror:
        pushed = push(hub, "library/busybox", "latest", busybox())
        seen = inspect(mirror, "library/busybox:latest", "--tls-verify=false")
        assert seen["Digest"] == pushed
        assert hub.accesses(f"/manifests/{pushed}") or hub.accesses("/manifests/latest")


def odd_images() -> Index:
    """Return several platforms, with compressions, empty and foreign layers, and attestations."""
    foreign = layer(b"", media_type=FOREIGN, extra={"urls": ["http://192.0.2.9/layer"]})
    return index(
        busybox(small_layer("one", compression="zstd", oci=True), oci=True),
        image(small_layer("two", compression=""), architecture="arm64", variant="v8"),
        image(layer(bytes(1024)), small_layer("three"), architecture="arm", variant="v7"),
        image(foreign, system="windows"),
        attestations=True,
    )


@pytest.mark.parametrize("liar", [False, True], ids=["docker-registry", "our own"])
def test_odd_images_are_stored(liar: bool, tmp_path: Path) -> None:
    with lies.lying_registry() if liar else registry() as hub:
        made = odd_images()
        pushed = push(hub, "odd/images", "1", made)
        url = f"docker://{hub.address}/odd/images:1"
        raw = skopeo("", "inspect", "--tls-verify=false", "--raw", url)
        assert raw.encode() == made.manifest.content
        options = ["--src-tls-verify=false", "--override-arch=arm64", "--override-os=linux"]
        skopeo("", "copy", *options, url, f"oci:{tmp_path}/copied:1")
        assert pushed == made.digest


def test_a_hundred_layers_are_stored() -> None:
    with registry() as hub:
        push(hub, "deep", "1", image(*(small_layer(f"layer{n}") for n in range(100))))
        assert len(inspect(hub, "deep:1", "--tls-verify=false")["Layers"]) == 100


def test_a_registry_that_lies_takes_pushes_and_tells_lies(tmp_path: Path) -> None:
    with lies.lying_registry() as liar:
        made = busybox()
        push(liar, "library/busybox", "latest", made)
        assert liar.log.lines == []
        url = f"docker://{liar.address}/library/busybox:latest"
        skopeo("", "copy", "--src-tls-verify=false", url, f"oci:{tmp_path}/good:1")
        assert liar.log.count("GET", made.layers[0].digest) == 1
        skopeo("", "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/good:1", f"{url}2")
        for lie in (lies.corrupt, lies.shorter, lies.longer, lies.broken_off, lies.circle):
            liar.be_honest()
            liar.lie("GET", made.layers[0].digest, lie)
            with pytest.raises(AssertionError, match="level=fatal"):
                skopeo("", "copy", "--src-tls-verify=false", url, f"oci:{tmp_path}/bad:1")


def test_a_registry_that_lies_can_have_a_certificate(namespace: str, tmp_path: Path) -> None:
    with lies.lying_registry(namespace, host=OUTSIDE, tls=True) as liar:
        assert liar.authority
        push(liar, "a/b", "1", image(small_layer("x")))
        (tmp_path / "ca.crt").write_bytes(liar.authority.certificate)
        url = f"docker://{liar.address}/a/b:1"
        assert skopeo(namespace, "inspect", f"--cert-dir={tmp_path}", url)
