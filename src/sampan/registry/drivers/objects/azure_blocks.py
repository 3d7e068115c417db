"""A blob of Azure's that grows: blocks are staged, and all committed when the writer is closed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, BinaryIO

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobClient

from sampan.registry.drivers.driver import Closing
from sampan.registry.drivers.objects.outbox import Sending

DIGITS = 20


Block = tuple[str, int]  # its id, and its size


class BlocksWriter(Closing):
    """Appends to a block blob; what is committed is there for all.

    Once something has failed, it is of no use any more.
    """

    def __init__(
        self,
        blob: BlobClient,
        chunk: int,
        offset: int,
        sending: Sending,
        told: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._blob = blob
        self._chunk = chunk
        self._told = told  # makes OSErrors of what goes wrong
        self._blocks: list[Block] = []
        self._changed = False
        self._etag = self._read()
        start = sum(size for _, size in self._blocks)
        if start < offset:
            raise OSError(f"azure: {blob.blob_name} has {start} bytes, not {offset}")
        while start > offset:
            start -= self._blocks.pop()[1]
            self._changed = True
        self._outbox = sending(self._stage, start)
        if start < offset:
            wanted = offset - start
            self._outbox.write(self._blob.download_blob(start, wanted).readall())

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

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._outbox.write(data)
        if self._outbox.size >= self._chunk:
            self._outbox.send()

    def _stage(self, start: int, file: BinaryIO, size: int) -> Block:
        # All ids of a blob have the same length; another registry's are others.
        block = f"{start:0{DIGITS}}-{secrets.token_hex(8)}"
        with self._told():
            self._blob.stage_block(block, file, length=size)
        return block, size

    def sync(self) -> None:
        if self._outbox.size:
            self._outbox.send()
        try:
            self._settle()
        except BaseException:
            with suppress(OSError):  # there is a better one to tell
                self._commit()
            raise
        self._commit()

    def _settle(self) -> None:
        try:
            self._outbox.settle()
        finally:
            self._changed = self._changed or bool(self._outbox.done)
            self._blocks += self._outbox.done
            self._outbox.done = []

    def _commit(self) -> None:
        """Let all see what was staged."""
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
        try:
            self.sync()
        finally:
            self._outbox.close()
