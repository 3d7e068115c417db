"""Our image archives in other engines, and theirs in ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.database import Database
from sampan.engine.images.images import Images
from sampan.spec.digest import Digest
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.linux_mounter import LinuxMounter
from tests import tarballs
from tests.image_shop import run, stream
from tests.layouts import Layout
from tests.tarballs import archive, file, folder, symlink

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]

ROOT = archive(
    folder("bin"),
    file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755),
    symlink("bin/sh", "busybox"),
    folder("etc"),
    file("etc/name", b"base"),
)
CHANGES = ['CMD ["/bin/sh", "-c", "exit 7"]', "ENV A=1", "LABEL made.by=test", "EXPOSE 80"]


class Store:
    """An image store on a real storage driver."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.mounter = LinuxMounter(root)
        self.database = Database(root / "database.sqlite")
        self.images = Images(root, self.database, self.mounter)

    def close(self) -> None:
        self.database.close()
        self.mounter.close()

    def save(self, path: Path, *names: str) -> None:
        async def write() -> None:
            with path.open("wb") as out:
                async for piece in self.images.save(names):
                    out.write(piece)

        run(write())

    def load(self, path: Path) -> list[str]:
        async def read() -> list[str]:
            messages = self.images.load(stream(path.read_bytes(), 1 << 20))
            return [message.stream.strip() async for message in messages]

        return run(read())


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def make() -> Store:
        stores.append(Store(tmp_path / f"store{len(stores)}"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """A store with the image app:1."""
    store = new_store()
    reference = Reference.parse("app:1")
    run(store.images.import_(stream(ROOT, 1 << 20), reference, changes=CHANGES))
    return store


def command(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    """Podman with a storage of its own; it takes no long paths."""
    needs("podman")
    with tempfile.TemporaryDirectory(prefix="pod") as folder:
        options = [
            "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs",
        ]  # fmt: skip
        yield lambda *words: command("podman", *options, *words)
        command("podman", *options, "rmi", "--all", "--force")


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_save(store: Store, tmp_path: Path, kind: str) -> None:
    needs("skopeo")
    store.save(tmp_path / "saved.tar", "app:1")
    name = "app:1" if kind == "docker-archive" else "1"
    seen = json.loads(
        command("skopeo", "inspect", "--config", f"{kind}:{tmp_path}/saved.tar:{name}")
    )
    image = run(store.images.resolve("app:1"))
    assert seen["rootfs"]["diff_ids"] == image.config.diff_ids
    assert seen["config"]["Cmd"] == ["/bin/sh", "-c", "exit 7"]
    assert seen["config"]["Labels"] == {"made.by": "test"}


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_copies_comes_back_with_the_same_layers(
    store: Store, new_store: Callable[[], Store], tmp_path: Path, kind: str
) -> None:
    needs("skopeo")
    store.save(tmp_path / "saved.tar", "app:1")
    target = f"{kind}:{tmp_path}/copied.tar:docker.io/library/copied:2"
    command("skopeo", "copy", f"docker-archive:{tmp_path}/saved.tar:app:1", target)
    other = new_store()
    assert other.load(tmp_path / "copied.tar") == ["Loaded image: copied:2"]
    ours, theirs = run(store.images.resolve("app:1")), run(other.images.resolve("copied:2"))
    assert theirs.config.diff_ids == ours.config.diff_ids
    assert theirs.config.run.env == ["A=1"]
    assert theirs.chain_id is not None
    assert other.mounter.stat(theirs.chain_id, "/etc/name").size == 4


def test_podman_loads_what_we_save(
    store: Store, tmp_path: Path, podman: Callable[..., str]
) -> None:
    store.save(tmp_path / "saved.tar", "app:1")
    assert "app:1" in podman("load", "--quiet", "--input", tmp_path / "saved.tar")
    seen = json.loads(podman("image", "inspect", "app:1"))[0]
    assert f"sha256:{seen['Id']}" == run(store.images.resolve("app:1")).id
    assert seen["Config"]["Env"] == ["A=1"]


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_we_load_what_podman_saves(
    store: Store,
    new_store: Callable[[], Store],
    tmp_path: Path,
    podman: Callable[..., str],
    kind: str,
) -> None:
    store.save(tmp_path / "saved.tar", "app:1")
    podman("load", "--quiet", "--input", tmp_path / "saved.tar")
    podman("tag", "app:1", "registry.example/app:9")
    podman(
        "save",
        "--quiet",
        "--format",
        kind,
        "--output",
        tmp_path / "podman.tar",
        "registry.example/app:9",
    )
    other = new_store()
    assert other.load(tmp_path / "podman.tar") == ["Loaded image: registry.example/app:9"]
    image = run(other.images.resolve("registry.example/app:9"))
    assert image.config.diff_ids == run(store.images.resolve("app:1")).config.diff_ids


def test_we_load_what_buildah_builds(
    store: Store, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    needs("buildah")
    store.save(tmp_path / "saved.tar", "app:1")
    options = [
        "--root", str(tmp_path / "buildah"), "--runroot", str(tmp_path / "buildah-run"),
        "--storage-driver", "vfs",
    ]  # fmt: skip
    name = command(
        "buildah", *options, "from", f"docker-archive:{tmp_path}/saved.tar:app:1"
    ).strip()
    (tmp_path / "added").write_text("added")
    command("buildah", *options, "copy", name, tmp_path / "added", "/etc/added")
    target = f"oci-archive:{tmp_path}/built.tar:built.example/app:3"
    command("buildah", *options, "commit", "--quiet", "--rm", name, target)
    command("buildah", *options, "rmi", "--all", "--force")
    other = new_store()
    assert other.load(tmp_path / "built.tar") == ["Loaded image: built.example/app:3"]
    image = run(other.images.resolve("built.example/app:3"))
    assert len(image.config.diff_ids) == 2
    assert image.chain_id is not None
    assert other.mounter.stat(image.chain_id, "/etc/added").size == 5
    assert other.mounter.stat(image.chain_id, "/etc/name").size == 4


def test_a_layer_that_is_no_archive_is_refused(store: Store, tmp_path: Path) -> None:
    junk = b"no archive at all" * 100
    config = json.dumps({"os": "linux", "rootfs": {"diff_ids": [tarballs.digest(junk)]}}).encode()
    manifest = json.dumps([{"Config": "c", "RepoTags": None, "Layers": ["l"]}]).encode()
    broken = tmp_path / "broken.tar"
    broken.write_bytes(archive(file("manifest.json", manifest), file("c", config), file("l", junk)))
    with pytest.raises(Exception, match="invalid tar header"):
        store.load(broken)
    assert len(store.mounter.snapshots()) == 1
    assert len(list(store.images.store.content)) == 1


# --- several platforms and compressions -------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_skopeo_compresses_keeps_its_digests(
    store: Store, new_store: Callable[[], Store], tmp_path: Path, compression: str
) -> None:
    needs("skopeo")
    store.save(tmp_path / "saved.tar", "app:1")
    target = f"oci-archive:{tmp_path}/packed.tar:registry.example/packed:2"
    compress = ["--dest-compress", "--dest-compress-format", compression]
    command("skopeo", "copy", *compress, f"docker-archive:{tmp_path}/saved.tar:app:1", target)
    manifest = json.loads(command("skopeo", "inspect", "--raw", target))
    other = new_store()
    assert other.load(tmp_path / "packed.tar") == ["Loaded image: registry.example/packed:2"]
    (layer,) = manifest["layers"]
    images = other.images.store
    (kept,) = images.layers.kept()
    assert (kept.blob, kept.blob_size, kept.media_type) == (
        layer["digest"], layer["size"], layer["mediaType"],
    )  # fmt: skip
    target_digest = images.target_of(Reference.parse("registry.example/packed:2"))
    assert json.loads(images.documents.read(target_digest or Digest(""))) == manifest
    other.save(tmp_path / "again.tar", "registry.example/packed:2")
    assert read(tmp_path / "again.tar", "manifest.json")[0]["Layers"] == [
        f"blobs/sha256/{run(store.images.resolve('app:1')).config.diff_ids[0][7:]}"
    ]


def read(path: Path, name: str) -> Any:
    with tarfile.open(path) as opened:
        found = opened.extractfile(name)
        assert found is not None
        return json.load(found)


def test_several_platforms_go_to_skopeo_and_come_from_buildah(
    new_store: Callable[[], Store], tmp_path: Path
) -> None:
    needs("skopeo")
    needs("buildah")
    ours = new_store()
    layout = Layout()
    amd, arm = layout.image(ROOT), layout.image(ROOT, archive(file("a")), architecture="arm64")
    layout.name(layout.index(amd, arm, layout.attestation(amd)), "docker.io/library/app:1")
    (tmp_path / "layout.tar").write_bytes(layout.archive())
    ours.load(tmp_path / "layout.tar")
    ours.save(tmp_path / "saved.tar", "app:1")
    for architecture in ("amd64", "arm64"):
        chosen = ["skopeo", "--override-arch", architecture, "inspect", "--config"]
        seen = json.loads(command(*chosen, f"oci-archive:{tmp_path}/saved.tar:1"))
        image = run(ours.images.resolve("app:1", Platform.parse(architecture)))
        assert seen["architecture"] == architecture
        assert seen["rootfs"]["diff_ids"] == image.config.diff_ids
    options = [
        "--root", str(tmp_path / "buildah"), "--runroot", str(tmp_path / "buildah-run"),
        "--storage-driver", "vfs",
    ]  # fmt: skip
    command("buildah", *options, "manifest", "create", "both")
    source = f"oci-archive:{tmp_path}/saved.tar:1"
    command("buildah", *options, "manifest", "add", "--all", "both", source)
    target = f"oci-archive:{tmp_path}/both.tar:registry.example/both:3"
    command("buildah", *options, "manifest", "push", "--all", "both", target)
    command("buildah", *options, "rmi", "--all", "--force")
    theirs = new_store()
    assert theirs.load(tmp_path / "both.tar") == ["Loaded image: registry.example/both:3"]
    assert theirs.images.store.images.keys() == ours.images.store.images.keys()
    theirs.save(tmp_path / "again.tar", "registry.example/both:3")
    assert (
        read(tmp_path / "again.tar", "index.json")["manifests"][0]["digest"]
        == (read(tmp_path / "saved.tar", "index.json")["manifests"][0]["digest"])
    )
