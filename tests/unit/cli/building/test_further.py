"""What `--build-context` means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sampan.cli.building.further import Further
from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument, NotFound

ONE, TWO = f"sha256:{1:064x}", f"sha256:{2:064x}"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with two images."""
    folder = tmp_path / "a:b@c"
    folder.mkdir()
    manifests = [
        {"digest": ONE, "annotations": {"org.opencontainers.image.ref.name": "1"}},
        {"digest": TWO, "annotations": {"io.containerd.image.name": "x:2"}},
    ]
    (folder / "index.json").write_text(json.dumps({"manifests": manifests}))
    return folder


@pytest.mark.parametrize(
    "address",
    ["docker-image://busybox", "https://h/x.git#main", "git@h:x", "ssh://h/x", "git://h/x"],
)
def test_an_address_is_left_to_the_daemon(address: str) -> None:
    further = Further([f"a={address}"])
    assert further.addresses == {"a": address}
    assert (further.folders, further.layouts) == ({}, {})


def test_a_folder_is_sent_without_what_it_ignores(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    (tmp_path / "g").write_text("2")
    (tmp_path / ".dockerignore").write_text("g\n")
    (tmp_path / "Dockerfile.dockerignore").write_text("f\n")  # of contexts with a Dockerfile
    further = Further([f"a={tmp_path}"])
    assert further.addresses == {"a": "archive:0"}
    sent = b"".join(further.folders["0"]())
    assert b"f\0" in sent
    assert b"g\0\0" not in sent


@pytest.mark.parametrize(
    ("suffix", "digest"), [(":1", ONE), (f"@{TWO}", TWO), (f":7@{TWO}", TWO), (":x:2", "")]
)
def test_an_image_of_a_layout_has_a_digest(layout: Path, suffix: str, digest: str) -> None:
    text = f"a=oci-layout://{layout}{suffix}"
    if digest:
        assert Further([text]).addresses == {"a": f"oci-layout://0@{digest}"}
    else:
        with pytest.raises(Exit, match="could not be resolved"):
            Further([text])


def test_of_several_images_one_has_to_be_named(layout: Path) -> None:
    with pytest.raises(Exit, match="failed to resolve digest"):
        Further([f"a=oci-layout://{layout}:latest"])
    [kept] = json.loads((layout / "index.json").read_text())["manifests"][:1]
    (layout / "index.json").write_text(json.dumps({"manifests": [kept]}))
    assert Further([f"a=oci-layout://{layout}:latest"]).addresses["a"].endswith(ONE)


@pytest.mark.parametrize("index", ["", "[]", "{", '{"manifests": [1]}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(layout: Path, index: str) -> None:
    (layout / "index.json").write_text(index)
    with pytest.raises(Exit, match="could not be resolved"):
        Further([f"a=oci-layout://{layout}:1"])


def test_nothing_but_blobs_is_read(layout: Path) -> None:
    further = Further([f"a=oci-layout://{layout}:1"])
    store = further.layouts["0"]
    for digest in ("../index.json", "sha256:../../index.json", f"{ONE}/x", f"sha512:{1:0128x}"):
        with pytest.raises(InvalidArgument):
            list(store.read(digest, 0))
    with pytest.raises(NotFound):
        list(store.read(ONE, 0))
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "blobs" / "sha256" / f"{1:064x}").write_bytes(b"content")
    assert b"".join(store.read(ONE, 3)) == b"tent"


@pytest.mark.parametrize("text", ["a", "a=", "=b"])
def test_a_context_has_a_name_and_a_place(text: str) -> None:
    with pytest.raises(Exit, match="expected key=value"):
        Further([text])
