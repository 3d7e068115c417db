"""Snapshots as overlay file systems: each holds only its own changes; up to 127 layers.

Mounts are made with fsopen(2) from descriptors, so path lengths do not limit the number of layers,
and stay detached: no mount appears in the host's tree.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from sampan.errors import Unsupported
from sampan.linux import mounts, trees
from sampan.linux.filesystems import filesystem_name, has_kinds
from sampan.linux.namespaces import CLONE_NEWNS, in_user_namespace, unshare
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.drivers.driver import Folders
from sampan.storage.idmapped import bound, file_ids, id_mapped, root_of
from sampan.storage.layers.diffing import (
    KERNEL_MARKS,
    USER_MARKS,
    Marks,
    overlay_changes,
    overlay_diff,
)
from sampan.storage.layers.rules import Rules
from sampan.storage.mounter import Change
from sampan.storage.projects import Projects

log = logging.getLogger(__name__)

# What is read from an upper directory later (diff, commit) has to be whole: no renames by
# reference, no copies of metadata alone. `index` off: a snapshot may be read as a lower layer
# while it is mounted to be written.
_OPTIONS: Final = ((b"redirect_dir", b"off"), (b"metacopy", b"off"), (b"index", b"off"))
# In a user namespace attributes are user.overlay.* (since Linux 5.11); redirect_dir=off would be
# refused there by a kernel that follows redirections whatever it is told.
_USER_OPTIONS: Final = (
    (b"userxattr", None),
    *((b"redirect_dir", b"nofollow"), (b"metacopy", b"off"), (b"index", b"off")),
)

SetLayer = Callable[[int, bytes, int], None]


def _by_descriptor(context: int, key: bytes, fd: int) -> None:
    mounts.fsconfig(context, mounts.FSCONFIG_SET_FD, key, None, fd)


def _by_name(context: int, key: bytes, fd: int) -> None:
    mounts.fsconfig(context, mounts.FSCONFIG_SET_STRING, key, b"/proc/self/fd/%d" % fd)


class OverlayDriver:
    """Snapshots as overlay file systems.

    `method`: how the kernel is told the layers: "descriptor" (since Linux 6.13), "name" (since
    6.7), or "text": all in one string, which only mount(2) takes when it is long. None: the best.
    """

    name = "overlay"
    copies = False
    marks: Marks = KERNEL_MARKS

    def __init__(self, root: Path, method: str | None = None) -> None:
        self._options: list[tuple[bytes, bytes | None]] = []
        self._root = root
        if in_user_namespace():
            self.marks = USER_MARKS
        self._projects = Projects(root, self.name)
        self.method = method or ""
        with scratch(root) as folders:
            self._probe(folders, [method] if method else ["descriptor", "name", "text"])

    def _probe(self, folders: list[Path], methods: list[str]) -> None:
        problem: OSError | None = None
        for self.method in methods:
            for options in self._options_to_try():
                self._options = list(options)
                try:
                    os.close(self._mount(folders[0], folders[1:], read_only=False))
                except OSError as error:
                    problem = error
                else:
                    if len(options) < len(_OPTIONS):
                        log.warning("overlay: this kernel lacks options; going on without")
                    return
        where = " in a user namespace" if self.marks is USER_MARKS else ""
        raise Unsupported(
            f"driver not supported: no overlay{where} with this kernel on"
            f" {filesystem_name(self._root)}: {problem}"
        )

    def _options_to_try(self) -> list[tuple[tuple[bytes, bytes | None], ...]]:
        if self.marks is USER_MARKS:
            return [_USER_OPTIONS]
        return [_OPTIONS, _OPTIONS[2:], ()]

    @property
    def sizes_problem(self) -> str:
        """Say why a snapshot's size cannot be limited."""
        return self._projects.problem

    def status(self) -> list[tuple[str, str]]:
        """Return what `docker info` shows."""
        return [
            ("Backing Filesystem", filesystem_name(self._root)),
            ("Supports d_type", str(has_kinds(self._root)).lower()),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", str(self.marks is USER_MARKS).lower()),
            ("Mounts", "detached"),
        ]

    def create(self, folder: Path, parents: tuple[Path, ...], size: int | None = None) -> None:
        """Make the empty upper and work directories."""
        self._projects.limit(folder, size)
        upper = folder / "fs"
        upper.mkdir()
        (folder / "work").mkdir(mode=0o700)
        if parents:
            status = os.stat(parents[0] / "fs")
            os.chmod(upper, stat.S_IMODE(status.st_mode))
            os.chown(upper, status.st_uid, status.st_gid)
        else:
            os.chmod(upper, 0o755)  # noqa: S103 - the root directory of a container

    def tree(self, folder: Path) -> int:
        """Open the upper directory."""
        return os.open(folder / "fs", trees.DIRECTORY)

    def rules(self, parents: tuple[Path, ...]) -> Rules:
        """Layers go into an empty directory; whiteouts become the kernel's."""
        return Rules(whiteouts="overlay", fresh=True, opaque=self.marks.opaque[0])

    def mount(self, folders: Folders, *, committed: bool, read_only: bool, user: int = -1) -> int:
        """Return a detached overlay; of a committed snapshot always a read-only one.

        What is only read has its own directory as the highest of the lower layers: a second mount
        with the same work directory would empty it, and a container that runs on the first could
        not write any more.
        """
        if not (committed or read_only):
            return self._mount(folders.own, list(folders.parents), read_only=False, user=user)
        layers = [folders.own, *folders.parents]
        if len(layers) > 1:
            return self._mount(None, layers, read_only=True, user=user)
        return bound(self.tree(folders.own), folders.own, user, read_only=True)

    def _mount(
        self, own: Path | None, layers: list[Path], *, read_only: bool, user: int = -1
    ) -> int:
        lower = [folder / "fs" for folder in layers]
        above = [own / "fs", own / "work"] if own is not None else []
        if own is not None and not lower:
            lower = [self._nothing(own)]
        if self.method == "text" or (user >= 0 and self.method == "name"):
            return _in_private_tree(self._root, lower, above, self._options, read_only, user)
        try:
            return self._detached(lower, above, read_only=read_only, user=user)
        except OSError as error:
            # Before Linux 6.15 a layer must not lie in a mount that is detached.
            if user < 0 or error.errno != errno.EINVAL:
                raise
            return _in_private_tree(self._root, lower, above, self._options, read_only, user)

    def _detached(self, lower: list[Path], above: list[Path], *, read_only: bool, user: int) -> int:
        with _opened([*lower, *above], user) as fds, ExitStack() as undo:
            context = mounts.fsopen(b"overlay")
            undo.callback(os.close, context)
            put: SetLayer = _by_descriptor if self.method == "descriptor" else _by_name
            for fd in fds[: len(lower)]:
                put(context, b"lowerdir+", fd)
            if above:
                put(context, b"upperdir", fds[-2])
                put(context, b"workdir", fds[-1])
            for key, value in self._options:
                kind = mounts.FSCONFIG_SET_FLAG if value is None else mounts.FSCONFIG_SET_STRING
                mounts.fsconfig(context, kind, key, value)
            mounts.fsconfig(context, mounts.FSCONFIG_SET_STRING, b"source", b"overlay")
            with _as_owner(fds[len(lower) :], user):
                mounts.fsconfig(context, mounts.FSCONFIG_CMD_CREATE)
            flags = mounts.MOUNT_ATTR_RDONLY if read_only else 0
            return mounts.fsmount(context, mounts.FSMOUNT_CLOEXEC, flags)

    @staticmethod
    def _nothing(own: Path) -> Path:
        """Overlay needs something below: an empty directory, for a snapshot on nothing."""
        empty = own / "empty"
        empty.mkdir(mode=0o755, exist_ok=True)
        return empty

    def discard(self, folder: Path) -> None:
        """Take the limit away."""
        self._projects.release(folder)

    def usage(self, folders: Folders) -> tuple[int, int]:
        """Measure the upper directory."""
        fd = self.tree(folders.own)
        try:
            return trees.usage(fd)
        finally:
            os.close(fd)

    def changes(self, folders: Folders) -> list[Change]:
        """Compare the upper directory with what lies below it."""
        with self._upper_and_lower(folders) as (upper, lower):
            return overlay_changes(upper, lower, self.marks)

    def diff(self, folders: Folders, writer: TarWriter) -> None:
        """Write the upper directory."""
        fd = self.tree(folders.own)
        try:
            overlay_diff(fd, writer, self.marks)
        finally:
            os.close(fd)

    @contextmanager
    def _upper_and_lower(self, folders: Folders) -> Iterator[tuple[int, int | None]]:
        upper = self.tree(folders.own)
        try:
            if not folders.parents:
                yield upper, None
                return
            below = Folders(folders.parents[0], folders.parents[1:])
            lower = self.mount(below, committed=True, read_only=True)
            try:
                yield upper, lower
            finally:
                os.close(lower)
        finally:
            os.close(upper)

    def graph(self, folders: Folders, *, committed: bool) -> dict[str, str]:
        """Return the directories by Docker's names."""
        data = {"UpperDir": str(folders.own / "fs"), "WorkDir": str(folders.own / "work")}
        if folders.parents:
            data["LowerDir"] = ":".join(str(folder / "fs") for folder in folders.parents)
        return data


@contextmanager
def _opened(folders: list[Path], user: int = -1) -> Iterator[list[int]]:
    """Open directories; with a user namespace, in id-mapped mounts of what they are in.

    An upper directory and its work directory have to be in one and the same mount.
    """
    with ExitStack() as undo:
        fds = []
        mapped: dict[Path, int] = {}
        for folder in folders:
            name, where = folder, None
            if user >= 0:
                if folder.parent not in mapped:
                    mapped[folder.parent] = id_mapped(folder.parent, user)
                    undo.callback(os.close, mapped[folder.parent])
                name, where = Path(folder.name), mapped[folder.parent]
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            fds.append(os.open(name, flags, dir_fd=where))
            undo.callback(os.close, fds[-1])
        yield fds


def _as_owner(above: list[int], user: int) -> AbstractContextManager[None]:
    """Mount with the ids that root has in the work directory, if they are not our own."""
    return file_ids(*root_of(above[-1])) if above and user >= 0 else nullcontext()


def _cover(folders: list[Path], user: int) -> None:
    """Mount what directories are in over itself, id-mapped: in a mount namespace of our own."""
    for parent in dict.fromkeys(folder.parent for folder in folders):
        mount = id_mapped(parent, user)
        fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.attach(mount, fd)
        finally:
            os.close(fd)
            os.close(mount)


def _in_private_tree(
    target: Path,
    lower: list[Path],
    above: list[Path],
    options: list[tuple[bytes, bytes | None]],
    read_only: bool,
    user: int = -1,
) -> int:
    """Mount by mount(2), in a mount namespace of a thread that ends at once; return the mount.

    The layers are opened in that namespace: overlay takes none of another one.
    Source: unshare(2): CLONE_NEWNS is the calling thread's own affair.
    """

    def mount() -> int:
        where = os.fsencode(target)
        unshare(CLONE_NEWNS)
        mounts.mount(None, b"/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        if user >= 0:
            _cover([*lower, *above], user)
        with _opened([*lower, *above]) as fds:
            # One page of options: 127 names like these fill half of it.
            names = [b"/proc/self/fd/%d" % fd for fd in fds]
            parts = [b"lowerdir=" + b":".join(names[: len(lower)])]
            if above:
                parts.append(b"upperdir=%s,workdir=%s" % (names[-2], names[-1]))
            parts += [key if value is None else b"%s=%s" % (key, value) for key, value in options]
            with _as_owner(fds[len(lower) :], user):
                mounts.mount(b"overlay", where, b"overlay", 0, b",".join(parts))
        fd = mounts.open_tree(mounts.AT_FDCWD, where, mounts.OPEN_TREE_CLONE)
        if read_only:
            mounts.mount_setattr(fd, b"", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
        return fd

    with ThreadPoolExecutor(1, thread_name_prefix="overlay") as thread:
        return thread.submit(mount).result()


@contextmanager
def scratch(root: Path) -> Iterator[list[Path]]:
    """Make an upper and two lower snapshots for a trial mount."""
    top = root / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    folders = [top / name for name in ("upper", "lower1", "lower2")]
    top.mkdir(parents=True)
    try:
        for folder in folders:
            (folder / "fs").mkdir(parents=True)
            (folder / "work").mkdir()
        yield folders
    finally:
        fd = os.open(root, trees.DIRECTORY)
        try:
            trees.remove(fd, os.fsencode(top.name))
        finally:
            os.close(fd)
