"""The kernel and the root of an emulated Debian, with systemd, AppArmor's parser and Python.

It is made once, of Debian's packages alone, and kept in .cache/ until this module changes: it
needs root, and a minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache" / "machine"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "e2fsprogs"),
    *("python3", "libseccomp2", "libnftables1", "nftables", "iptables", "tini", "busybox-static"),
    *("apparmor", "attr", "btrfs-progs", "xfsprogs"),
)
# To reach the disks; all else is loaded by udev from the root.
MODULES = ("virtio_pci", "virtio_blk", "ext4")
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module; done
$b mount -t ext4 /dev/vda /root
$b mkdir -p /root{repository}
$b mount -t ext4 /dev/vdb /root{repository}
$b umount /proc /sys
exec $b switch_root /root /sbin/init
"""
UNIT = """[Unit]
Description=Tests of {repository}
After=systemd-user-sessions.service
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
ExecStart=/bin/sh -e {repository}/.machine/run
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Image:
    """What qemu boots: the root's disk is only read, changes go to a file that is thrown away."""

    kernel: Path
    initramfs: Path
    root: Path


def root_image() -> Image:
    """Return the kernel and the root, made of Debian's packages unless they are there."""
    name = hashlib.sha256(f"{_release()} {REPOSITORY}\n{Path(__file__).read_text()}".encode())
    folder = CACHE / name.hexdigest()[:16]
    image = Image(folder / "vmlinuz", folder / "initramfs", folder / "root.img")
    if not folder.exists():
        shutil.rmtree(CACHE, ignore_errors=True)  # of an older recipe
        draft = folder.with_suffix(f".{os.getpid()}")
        draft.mkdir(parents=True)
        try:
            _make(draft)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return image


def _release() -> str:
    """Return the release of this host: its Python runs the virtual environment there too."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2]
    raise AssertionError("the emulated machine is a Debian of this host's release: it has none")


def _make(folder: Path) -> None:
    root = folder / "root"
    unit = folder / "sampan-tests.service"
    unit.write_text(UNIT.format(repository=REPOSITORY))
    subprocess.run(
        ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase", "--quiet"]
        + [f"--include={','.join(PACKAGES)}"]
        + ["--customize-hook=chroot $1 useradd --system --user-group --no-create-home sampan"]
        + [f"--customize-hook=cp {unit} $1/etc/systemd/system"]
        + [f"--customize-hook=chroot $1 systemctl --quiet enable {unit.name}"]
        + [_release(), root],
        check=True,
    )
    _unpack_kernel(folder, root)
    _make_initramfs(folder, root)
    make_disk(root, folder / "root.img", 3 << 10)
    shutil.rmtree(root)


def _unpack_kernel(folder: Path, root: Path) -> None:
    """Unpack the kernel, which nobody installs: no boot loader, no hooks."""
    depends = subprocess.run(
        ["apt-cache", "depends", KERNEL_PACKAGE], check=True, capture_output=True, text=True
    ).stdout
    package = next(word for word in depends.split()[1:] if word.startswith("linux-image-"))
    subprocess.run(
        ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package],
        cwd=folder,
        check=True,
    )
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, folder / "kernel"], check=True)
    archive.unlink()
    (vmlinuz,) = folder.glob("kernel/boot/vmlinuz-*")
    vmlinuz.rename(folder / "vmlinuz")
    (modules,) = folder.glob("kernel/lib/modules/*")
    destination = root / "usr/lib/modules" / modules.name
    destination.parent.mkdir(exist_ok=True)
    shutil.move(modules, destination)
    shutil.rmtree(folder / "kernel")
    subprocess.run(["chroot", root, "depmod", modules.name], check=True)


def _make_initramfs(folder: Path, root: Path) -> None:
    tree = folder / "tree"
    for name in ("bin", "dev", "modules", "proc", "root", "sys"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    (tree / "init").write_text(INIT.format(repository=REPOSITORY))
    (tree / "init").chmod(0o755)
    (modules,) = (root / "usr/lib/modules").iterdir()
    paths: list[str] = []
    for name in MODULES:
        listed = subprocess.run(
            ["chroot", root, "modprobe", "--set-version", modules.name, "--show-depends", name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        lines = (line.split() for line in listed.splitlines())
        paths += [words[1] for words in lines if words[0] == "insmod" and words[1] not in paths]
    for path in paths:
        shutil.copy(f"{root}{path}", tree / "modules")
    order = "\n".join(os.path.basename(path) for path in paths)
    (tree / "modules/order").write_text(order)
    subprocess.run(
        f"find . | busybox cpio -o -H newc > {folder / 'initramfs'}",
        shell=True,
        cwd=tree,
        check=True,
    )
    shutil.rmtree(tree)


def make_disk(folder: Path, disk: Path, mebibytes: int) -> None:
    """Make an ext4 file system with a copy of this folder."""
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, disk, f"{mebibytes}M"], check=True
    )
