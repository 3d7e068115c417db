"""The image that is measured: made once of the machine's own programs, kept in a folder.

Files have sizes as a distribution's have (log-normal, 21 KB in the mean) and are cut from the
machine's programs and texts, so that they compress as real ones do. The same machine makes the
same image; other machines make one alike.
"""

from __future__ import annotations

import io
import math
import random
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engines import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from tests.registries import registry
from tests.remote_images import Layer, busybox, push
from tests.tarballs import digest

REFERENCE = "big/image:1"
FILES = 52_000
SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)  # of the files, a layer each
POOL_BYTES = 256 << 20
MEAN_LOG, SIGMA_LOG = math.log(4_500), 1.75  # of the sizes
LARGEST = 24 << 20


def big_image(cache: Path) -> tuple[Path, Path]:
    """Return the image as `docker save` writes it, and a root file system to import.

    `cache/storage` is the storage of a registry that has the image.
    """
    archive, root = cache / "image.tar", cache / "root.tar"
    if not archive.exists():
        shutil.rmtree(cache, ignore_errors=True)
        (cache / "storage").mkdir(parents=True)
        print("making the image: some minutes, once", file=sys.stderr)
        with registry(storage=cache / "storage") as hub:
            made = busybox(*layers(root))
            push(hub, *REFERENCE.split(":"), made)
            source = f"docker://{hub.address}/{REFERENCE}"
            part = archive.with_suffix(".part")
            target = f"docker-archive:{part}:{REFERENCE}"
            subprocess.run(
                ["skopeo", "copy", "-q", "--src-tls-verify=false", source, target], check=True
            )
            part.rename(archive)
    return archive, root


def layers(root: Path) -> list[Layer]:
    """Return the layers; write all their files as one archive to `root`."""
    plain = []
    with root.open("wb") as out:
        for content, end in archives():
            plain.append(content)
            out.write(content[:end])
        out.write(bytes(1024))
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(packed, plain))


def packed(plain: bytes) -> Layer:
    packer = zlib.compressobj(6, wbits=31)
    content = packer.compress(plain) + packer.flush()
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    return Layer(kind, content, diff_id=digest(plain))


def pool() -> bytes:
    """Return bytes of programs, libraries and texts of this machine."""
    content = bytearray()
    for folder in ("/usr/bin", "/usr/share/doc", "/usr/lib/python3", "/usr/share", "/usr/lib"):
        begun = len(content)
        for path in sorted(Path(folder).rglob("*")):
            if len(content) - begun > POOL_BYTES // 4 or len(content) > POOL_BYTES:
                break
            if path.is_file() and not path.is_symlink() and path.suffix != ".gz":
                content += path.read_bytes()[: 4 << 20]
    return bytes(content)


def archives() -> Iterator[tuple[bytes, int]]:
    """Yield the uncompressed layers, and where the members of each end."""
    dice, source = random.Random(1), pool()
    number = 0
    for place, share in enumerate(SHARES):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for n in range(round(FILES * share)):
                folder = f"usr/part{place}/d{n // 700:03}/s{n // 35 % 20:02}"
                if n % 35 == 0:
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
                size = min(int(dice.lognormvariate(MEAN_LOG, SIGMA_LOG)), LARGEST)
                at = dice.randrange(len(source) - size)
                entry = tarfile.TarInfo(f"{folder}/file{number}")
                entry.size, entry.mode, entry.mtime = size, 0o644, 1_700_000_000 + number
                archive.addfile(entry, io.BytesIO(source[at : at + size]))
                number += 1
            end = archive.offset
        yield out.getvalue(), end
