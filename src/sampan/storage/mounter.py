"""The contract of the storage helper: layers, snapshots, mounts, copies in and out."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from sampan.rpc import Fd

Kind = Literal["staged", "committed", "active"]


class Unpacked(msgspec.Struct, kw_only=True):
    """A layer that has been unpacked."""

    diff_id: str  # sha256:… of the uncompressed tar
    plain_size: int  # bytes of the uncompressed tar
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
    kind: Kind
    diff_id: str = ""  # of layers, as all that follows
    plain_size: int = 0  # bytes of the uncompressed tar
    size: int = 0  # bytes of file content and of link targets
    entries: int = 0


class DiskReport(msgspec.Struct, kw_only=True):
    """Allocated bytes of everything in the driver's folder."""

    snapshots: dict[str, int]  # by key
    others: dict[str, int]  # by name: .init, .trash, .new, the folder itself (.), other drivers'


class DriverInfo(msgspec.Struct, kw_only=True):
    """How snapshots are kept."""

    name: str
    status: list[tuple[str, str]] = []  # what `docker info` shows
    kept: list[str] = []  # the drivers that have snapshots in this data root
    sizes_problem: str = ""  # why `prepare` takes no size; "" if it does


class Mounter(Protocol):
    """Does everything to file systems that needs privilege.

    Keys are container ids, layer chain ids (sha256:…) or names of staged layers; the helper derives
    all paths from them. A layer is first unpacked (`unpack`: kind "staged") and then put on its
    parent (`commit`: kind "committed"); both outlast a restart.
    A descriptor `root` stands for the root of a running container (/proc/PID/root, O_PATH); without
    it the snapshot `key` itself is used. A container in a user namespace has its files shifted into
    the range of it by `mount`; what is asked about its `root` is done as its root, in `user`.
    Archives are uncompressed tar unless said otherwise.
    """

    def driver(self) -> DriverInfo:
        """Return which storage driver is used."""

    def layers_stand_alone(self) -> bool:
        """Layers can be unpacked in any order and at once, before their parents are there."""

    def unpack(self, archive: Fd, key: str, parent: str | None = None) -> Unpacked:
        """Unpack a layer (any compression; file or pipe) as the staged snapshot `key`.

        `parent` is needed only where layers do not stand alone. Idempotent: if the snapshot is
        there already, the archive is not read. A broken or hostile archive raises InvalidArgument
        and leaves nothing.
        """

    def commit(self, key: str, chain_id: str, parent: str | None) -> None:
        """Make the staged layer `key` the committed snapshot `chain_id` on `parent`.

        Idempotent: if `chain_id` is there, the staged one goes. InvalidArgument if the layer's
        digest does not lead from `parent` to `chain_id`, above 127 layers, and for links to files
        that the parents do not have; Conflict if it was unpacked for another parent.
        """

    def capture(self, key: str, staged: str) -> Unpacked:
        """Make what an active snapshot has changed the staged layer `staged`, without a copy.

        The snapshot is of no use afterwards, but for `remove`; nothing may run on it. If it has
        changed nothing, nothing is staged. Unsupported where that needs a copy: use `diff`.
        """

    def pack_layer(self, chain_id: str, into: Fd) -> None:
        """Write a committed layer as the uncompressed tar that it came from, byte for byte.

        NotFound if that cannot be told any more; a tar that does not have the layer's digest in
        the end raises InvalidArgument.
        """

    def verify(self, chain_id: str) -> list[str]:
        """Read a committed layer whole and return what is wrong with it; empty if it is intact."""

    def disk_usage(self) -> DiskReport:
        """Return where every byte below the driver's folder is."""

    def prepare(self, key: str, parent: str | None, size: int | None = None) -> None:
        """Make a writable snapshot. Conflict if it exists; InvalidArgument above 127 layers.

        With a `size`, writing more bytes than that to it fails with ENOSPC or EDQUOT;
        InvalidArgument where driver and file system cannot do that.

        It has the places that are mounted on in every container (/proc, /etc/hosts, /.dockerenv
        …), which are no changes of its own.
        """

    def mount(self, key: str, read_only: bool = False, user: Fd | None = None) -> Fd:
        """Return a detached mount (open_tree/fsmount) of a snapshot, for move_mount.

        A committed snapshot is always mounted read-only. What is owned by id 0 on disk belongs to
        the root of the user namespace `user`, and so on; Unsupported where that cannot be done.
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

    def stat(self, key: str, path: str, root: Fd | None = None, user: Fd | None = None) -> PathStat:
        """Return what `path` inside the root is; NotFound if it is nothing."""

    def pack(
        self, key: str, path: str, into: Fd, root: Fd | None = None, user: Fd | None = None
    ) -> None:
        """Write `path` as a tar: a file by its name, a folder by its name with all below it.

        An empty path is the export: all below the root, by names without a leading slash.
        """

    def extract(
        self,
        key: str,
        path: str,
        archive: Fd,
        options: ExtractOptions,
        root: Fd | None = None,
        user: Fd | None = None,
    ) -> None:
        """Unpack a tar (plain, gzip, bzip2, xz, zstd) into the folder `path` inside the root.

        NotFound if there is no such folder; InvalidArgument if it is no folder or read-only.
        """

    def graph(self, key: str) -> dict[str, str]:
        """Return the driver's data for `inspect` (LowerDir, UpperDir, WorkDir …)."""
