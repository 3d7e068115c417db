"""The engine inside a Python process: the same parts as the daemon's, called synchronously.

An event loop in a thread of its own runs the engine; storage and network work in this process,
and the spawner, which has to be single-threaded, in one of its own that ends with the engine.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import hashlib
import os
import tempfile
import threading
import weakref
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from sampan import rpc
from sampan.engine.containers.queries import ListQuery
from sampan.engine.engine import Engine
from sampan.engine.networks.networks import NetworkOptions
from sampan.engine.options import EngineOptions
from sampan.errors import Conflict, Forbidden, SampanError
from sampan.library.calls import Calls, Loop
from sampan.library.containers import LibraryContainers
from sampan.library.images import LibraryImages
from sampan.network.linux_plumber import LinuxPlumber
from sampan.runtime.spawner import Spawner
from sampan.runtime.spawning.finding import open_spawner, stop_spawner
from sampan.storage.linux_lender import LinuxLender
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.linux_volume_keeper import LinuxVolumeKeeper

T = TypeVar("T")
SOCKET_PATH_BYTES = 90  # of sun_path's 108, the name of the socket left out
STOP_SECONDS = 3


class LibraryEngine:
    """One engine in this process. `engine` is the asynchronous one behind it."""

    def __init__(self, data_root: Path, *, network: bool, storage_driver: str) -> None:
        """Make all parts and compare what is on disk with what runs."""
        self._networks: list[str] = []
        with ExitStack() as undo:
            undo.callback(os.close, _lock(data_root))
            run_root = _run_root(data_root)
            mounter = LinuxMounter(data_root, storage_driver)
            undo.callback(mounter.close)
            keeper = LinuxVolumeKeeper(data_root, run_root)
            undo.callback(keeper.close)
            tag = hashlib.sha256(os.fsencode(data_root)).hexdigest()[:6]
            self._plumber = LinuxPlumber(owner=f"sampan-{tag}")
            undo.callback(self._plumber.close)
            undo.callback(self._remove_networks)
            undo.callback(stop_spawner, data_root, run_root)
            sock = undo.enter_context(open_spawner(data_root, run_root))
            self._loop = Loop()
            undo.callback(self._loop.close)
            bridge = f"sampan-{tag}" if network else "none"
            options = EngineOptions(network=NetworkOptions(bridge=bridge))
            self.engine = self.call(
                _entered(
                    mounter=mounter,
                    keeper=keeper,
                    lender=LinuxLender(),
                    plumber=self._plumber,
                    spawner=rpc.connect(Spawner, sock),  # type: ignore[type-abstract]
                    data_root=data_root,
                    options=options,
                )
            )
            undo.callback(self._leave)
            self._undo = undo.pop_all()
        calls = Calls(self.engine, self._loop, "bridge" if network else "none")
        self.containers = LibraryContainers(calls)
        self.images = LibraryImages(calls)
        _at_exit(self)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the asynchronous engine, and return what it returns."""
        return self._loop.call(work)

    def close(self) -> None:
        """Stop all containers and end everything; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _leave(self) -> None:
        self.call(self._stop_all())

    async def _stop_all(self) -> None:
        """Stop what runs, at once all together, and leave the engine."""
        engine = self.engine

        async def stop(id: str) -> None:
            with suppress(SampanError):  # it has just ended
                await engine.containers.stop(id, timeout=STOP_SECONDS)

        running = await engine.containers.list(ListQuery())
        await asyncio.gather(*(stop(each.id) for each in running))
        self._networks = [each.id for each in await engine.networks.list({"driver": ["bridge"]})]
        await engine.__aexit__(None, None, None)

    def _remove_networks(self) -> None:
        for network in self._networks:
            self._plumber.remove_network(network)


def _at_exit(engine: LibraryEngine) -> None:
    """Close the engine when the interpreter ends, should nobody have done it."""
    reference = weakref.ref(engine)

    def close() -> None:
        if (alive := reference()) is not None:
            alive.close()

    # Functions of atexit are called after those of threading, when thread pools take no work.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(close)


async def _entered(**parts: Any) -> Engine:
    return await Engine(**parts).__aenter__()


def open_engine(
    data_root: str | os.PathLike[str], *, network: bool = True, storage_driver: str = ""
) -> LibraryEngine:
    """Open an engine below `data_root`; see `sampan.open_engine`."""
    if os.geteuid():
        raise Forbidden(
            "containers are run by this process itself, so it needs root; "
            "as another user, ask a daemon through sampan.client"
        )
    root = Path(data_root).resolve()
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    return LibraryEngine(root, network=network, storage_driver=storage_driver)


def _lock(data_root: Path) -> int:
    """Claim the data root, which one engine at a time may use; return what holds the claim."""
    descriptor = os.open(data_root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(f"another engine is using the data root {data_root}") from None
    return descriptor


def _run_root(data_root: Path) -> Path:
    """Return the folder of sockets and state that a restart of the machine may take."""
    inside = data_root / "run"
    if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(data_root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sampan-{os.geteuid()}-{digest}"
