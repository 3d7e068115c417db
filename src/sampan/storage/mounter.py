"""The contract of the storage helper: layers, snapshots, mounts, copies in and out."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from sampan.rpc import Fd


class Unpacked(msgspec.Struct, kw_only=True):
    """A layer that has been applied."""

    diff_id: str  # sha256:… of the uncompressed tar
    size: int  # bytes of file content and of link targets in this layer
    entries: int


class Usage(msgspec.Struct, kw_only=True):
    """Disk use of one snapshot, parents not counted."""

    size: int  # bytes
    inodes: int


class Change(msgspec.Struct, kw_only=True):
    """One path that differs from the parent snapshot."""

    path: str
    kind: Literal[0, 1, 2]  # Docker's numbers: 0 modified, 1 added, 2 deleted


class PathStat(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of X-Docker-Container-Path-Stat."""

    name: str
    size: int
    mode: int  # Go's os.FileMode, not st_mode
    mtime: str  # RFC 3339 with nanoseconds
    link_target: str = ""


class ExtractOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How `PUT …/archive` treats what is there."""

    no_overwrite_dir_non_dir: bool = False
    copy_uid_gid: bool = False
    user: str = ""  # the container's `Config.User`, whose ids copy_uid_gid gives to all files


class SnapshotInfo(msgspec.Struct, kw_only=True):
    """One snapshot of the driver."""

    key: str
    parent: str | None
    kind: Literal["committed", "active"]


class Mounter(Protocol):
    """Does everything to file systems that needs privilege.

    Keys are container ids or layer chain ids (sha256:…); the helper derives all paths from them.
    A descriptor `root` stands for the root of a running container (/proc/PID/root, O_PATH); without
    it the snapshot `key` itself is used. Archives are uncompressed tar unless said otherwise.
    """

    def unpack(self, archive: Fd, chain_id: str, parent: str | None) -> Unpacked:
        """Apply a layer (tar, gzip or zstd; file or pipe) on `parent` as the snapshot `chain_id`.

        Idempotent: if the snapshot is there already, the archive is not read. A broken or hostile
        archive, or one whose digest does not lead from `parent` to `chain_id`, raises
        InvalidArgument and leaves nothing.
        """

    def prepare(self, key: str, parent: str | None) -> None:
        """Make a writable snapshot. Conflict if it exists; InvalidArgument above 127 layers.

        It has the places that are mounted on in every container (/proc, /etc/hosts, /.dockerenv
        …), which are no changes of its own.
        """

    def mount(self, key: str, read_only: bool = False) -> Fd:
        """Return a detached mount (open_tree/fsmount) of a snapshot, for move_mount.

        A committed snapshot is always mounted read-only.
        """

    def remove(self, key: str) -> None:
        """Remove a snapshot; Conflict while it has children. Unknown keys are no error."""

    def snapshots(self) -> list[SnapshotInfo]:
        """Return all snapshots, for repair and prune."""

    def usage(self, key: str) -> Usage:
        """Return the disk use of one snapshot."""

    def changes(self, key: str) -> list[Change]:
        """Return what an active snapshot changed, as `docker diff` shows it, sorted by path."""

    def diff(self, key: str, into: Fd) -> None:
        """Write what an active snapshot changed as an OCI layer tar."""

    def stat(self, key: str, path: str, root: Fd | None = None) -> PathStat:
        """Return what `path` inside the root is; NotFound if it is nothing."""

    def pack(self, key: str, path: str, into: Fd, root: Fd | None = None) -> None:
        """Write `path` as a tar: a file by its name, a folder by its name with all below it.

        An empty path is the export: all below the root, by names without a leading slash.
        """

    def extract(
        self, key: str, path: str, archive: Fd, options: ExtractOptions, root: Fd | None = None
    ) -> None:
        """Unpack a tar (plain, gzip, bzip2, xz, zstd) into the folder `path` inside the root.

        NotFound if there is no such folder; InvalidArgument if it is no folder or read-only.
        """

    def graph(self, key: str) -> dict[str, str]:
        """Return the driver's data for `inspect` (LowerDir, UpperDir, WorkDir …)."""
