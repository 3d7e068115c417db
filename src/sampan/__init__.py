"""Sampan, a container engine: as a daemon, as a command, and inside a Python process.

import sampan

with sampan.open_engine("/srv/containers") as engine:
    engine.images.import_("rootfs.tar", "busybox")
    print(engine.containers.run("busybox", ["echo", "hello"]).stdout)
"""

from __future__ import annotations

from sampan.spec import versions

TYPE_CHECKING = False  # importing typing would cost every command line 3 ms
if TYPE_CHECKING:
    import os

    from sampan.library.engine import LibraryEngine

__version__ = versions.VERSION
__all__ = ["__version__", "open_engine"]


def open_engine(
    data_root: str | os.PathLike[str], *, network: bool = True, storage_driver: str = ""
) -> LibraryEngine:
    """Open an engine whose images and containers live below `data_root`; needs root.

    Use it as a context manager: at the end its containers are stopped and its processes and
    interfaces are gone, images and stopped containers stay. Without `network` containers have
    only loopback, or the host's network if they ask for it. Raises Forbidden, Conflict.
    """
    from sampan.library.engine import open_engine as open_

    return open_(data_root, network=network, storage_driver=storage_driver)
