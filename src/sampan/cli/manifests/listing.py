"""The rules of manifest lists: what may stand in one."""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.cli.manifests.entries import Entry
    from sampan.spec.reference import Reference

# Source: docker/cli cli/command/manifest/util.go
PLATFORMS = {
    "darwin": "386 amd64 arm arm64",
    "dragonfly": "amd64",
    "freebsd": "386 amd64 arm",
    "linux": "386 amd64 arm arm64 ppc64le mips64 mips64le riscv64 s390x",
    "netbsd": "386 amd64 arm",
    "openbsd": "386 amd64 arm",
    "plan9": "386 amd64",
    "solaris": "amd64",
    "windows": "386 amd64",
}


def is_known(os_name: str, architecture: str) -> bool:
    """Whether a list may name this platform."""
    return architecture in PLATFORMS.get(os_name, "").split()


def check_registry(target: Reference, entries: Iterable[Entry], prefix: str = "") -> None:
    """Raise InvalidArgument if a manifest is of another registry than the list."""
    from sampan.spec.reference import Reference

    for entry in entries:
        domain = Reference.parse(entry.reference).domain
        if domain != target.domain:
            raise InvalidArgument(
                f"{prefix}cannot use source images from a different registry than the target "
                f"image: {domain} != {target.domain}"
            )
