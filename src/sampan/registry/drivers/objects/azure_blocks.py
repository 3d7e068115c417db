"""A blob of Azure's that grows: blocks are staged, and all committed when the writer is closed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobClient

from sampan.registry.drivers.driver import Closing

DIGITS = 20


class BlocksWriter(Closing):
    """Appends to a block blob. Holds one block in memory; what is committed is there for all."""

    def __init__(
        self,
        blob: BlobClient,
        chunk: int,
        offset: int,
        told: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._blob = blob
        self._chunk = chunk
        self._told = told  # makes OSErrors of what goes wrong
        self._buffer = bytearray()
        self._blocks: list[tuple[str, int]] = []
        self._changed = False
        self._etag = self._read()
        self._start = sum(size for _, size in self._blocks)  # of the buffer in the blob
        if self._start < offset:
            raise OSError(f"azure: {blob.blob_name} has {self._start} bytes, not {offset}")
        if self._start > offset:
            self._cut(offset)

    @property
    def version(self) -> str:
        return self._etag

    def _read(self) -> str:
        """Learn what there is; return its etag, empty if there is nothing."""
        try:
            found = self._blob.get_blob_properties()
        except ResourceNotFoundError:
            return ""
        committed, _ = self._blob.get_block_list("committed")
        self._blocks = [(block.id, block.size) for block in committed]
        if sum(size for _, size in self._blocks) != found.size:
            raise OSError(f"azure: {self._blob.blob_name} does not consist of blocks")
        return str(found.etag)

    def _cut(self, offset: int) -> None:
        """Forget what is behind an offset."""
        while self._start > offset:
            self._start -= self._blocks.pop()[1]
        if self._start < offset:
            wanted = offset - self._start
            self._buffer += self._blob.download_blob(self._start, wanted).readall()
        self._changed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data
        if len(self._buffer) >= self._chunk:
            self._stage()

    def _stage(self) -> None:
        """Send the buffer. Where this fails it is kept, for the next who tries."""
        # All ids of a blob have the same length; another registry's are others.
        block = f"{self._start:0{DIGITS}}-{secrets.token_hex(8)}"
        with self._told():
            self._blob.stage_block(block, bytes(self._buffer), length=len(self._buffer))
        self._blocks.append((block, len(self._buffer)))
        self._start += len(self._buffer)
        self._buffer = bytearray()
        self._changed = True

    def sync(self) -> None:
        if self._buffer:
            self._stage()
        if not self._changed and self._etag:
            return
        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
        if self._etag:
            condition = {"etag": self._etag, "match_condition": MatchConditions.IfNotModified}
        with self._told():
            done = self._blob.commit_block_list(
                [BlobBlock(block) for block, _ in self._blocks], **condition
            )
        self._etag = str(done["etag"])
        self._changed = False

    def close(self) -> None:
        self.sync()
