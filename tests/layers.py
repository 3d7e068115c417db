"""Layers for tests: unpacked and put on their parent in one go."""

from __future__ import annotations

import os

from sampan.rpc import Fd
from sampan.storage.mounter import Mounter, Unpacked
from tests import tarballs


def add(
    mounter: Mounter, content: bytes, chain_id: str, parent: str | None = None, key: str = ""
) -> Unpacked:
    """Unpack an archive and commit it as `chain_id`; if that fails, nothing stays."""
    key = key or "staged-" + tarballs.digest(content)[7:]
    fd = tarballs.memory_file(content)
    try:
        unpacked = mounter.unpack(Fd(fd), key, parent)
        mounter.commit(key, chain_id, parent)
        return unpacked
    except BaseException:
        mounter.remove(key)
        raise
    finally:
        os.close(fd)
