"""The contract of the storage helper for volumes: folders, what is mounted on them, plug-ins."""

from __future__ import annotations

from typing import Protocol

import msgspec

from sampan.rpc import Fd
from sampan.spec.runtime import Mount


class Fill(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One volume that gets what an image has at its place, if it is empty."""

    volume: str
    path: str  # in the image
    in_place: bool = False  # somebody has the volume mounted: its folder cannot be replaced


class VolumeFolder(msgspec.Struct, kw_only=True):
    """What is there of one volume."""

    name: str
    mounted: bool = False  # something is mounted on its folder


class VolumeUsage(msgspec.Struct, kw_only=True):
    """Disk use of one volume; -1 for one on which something is mounted."""

    size: int  # bytes of its files
    allocated: int  # bytes on the disk, with its own folders


class FileWatch(msgspec.Struct, kw_only=True):
    """Whether files are replaced by others."""

    events: Fd
    files: dict[str, int] = {}  # the watch descriptor of the folder that each path is in


class PluginSocket(msgspec.Struct, kw_only=True):
    """A way to a plug-in: a connected Unix socket, or an address to be dialled by the caller."""

    sock: Fd | None = None
    address: str = ""  # tcp://host:port, as an administrator wrote it


class VolumeKeeper(Protocol):
    """Keeps the folders of local volumes, <data root>/volumes/<name>/_data.

    Names are checked here, paths derived from them. It is served beside `Mounter`, by the same
    helper.
    """

    def make_volume(self, name: str, size: int = 0) -> None:
        """Make the folder of a volume; one that is there stays as it is.

        With a `size`, writing more bytes than that fails with ENOSPC or EDQUOT; InvalidArgument
        where the file system has no quotas of projects.
        """

    def volumes(self) -> list[VolumeFolder]:
        """Return all volumes whose folder is complete."""

    def mount_volume(self, name: str, mount: Mount) -> None:
        """Mount a file system, or a folder of the host, on a volume's folder, if nothing is yet.

        `mount` has the words of mount(8): type, source, options. InvalidArgument with the kernel's
        reason if that fails.
        """

    def unmount_volume(self, name: str) -> None:
        """Take away what is mounted on a volume's folder; nothing there is no error."""

    def fill_volumes(self, root: Fd, fills: list[Fill]) -> None:
        """Copy from the root of a container into empty volumes: owners, modes, links, attributes.

        All or nothing for each volume, but for one that is filled in place. What is missing in the
        root, or no folder there, fills nothing. Devices are left out. NoSpace on a full disk.
        """

    def remove_volume(self, name: str) -> None:
        """Take a volume's folder away; unknown names are no error.

        Nothing is deleted yet: `collect_volumes` does that.
        """

    def collect_volumes(self) -> None:
        """Delete what removals and killed copies have left; may be called at any time."""

    def volume_usage(self, names: list[str]) -> dict[str, VolumeUsage]:
        """Return the disk use of volumes; those that are not there are left out.

        The name "" stands for everything below the folder of volumes that belongs to none.
        """

    def watch_files(self, paths: list[str]) -> FileWatch | None:
        """Return a descriptor of inotify(7) for the folders of those paths that are files.

        None if none of them is. It tells of names that files are given in these folders.
        """

    def dial_plugin(self, name: str) -> PluginSocket:
        """Connect with the plug-in of this name; NotFound if there is none.

        Sockets and specification files are looked for in the folders that plug-ins use.
        """

    def plugins(self) -> list[str]:
        """Return the names of all plug-ins that have a socket or a specification file."""
