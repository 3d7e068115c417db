"""Blobs that docker-registry keeps under another digest than the one that they were pushed with.

It stores every blob by its sha256, and the link of another digest says which that is. Here a blob
is stored by the digest that it was pushed with, and its link says the same, which docker-registry
understands as well. So what it left is copied, once, when it is met: nothing else has to know.
"""

from __future__ import annotations

import hashlib
import logging

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.drivers.driver import ANYHOW, Driver, File
from sampan.spec.digest import Digest, algorithm, encoded, parse_digest

log = logging.getLogger(__name__)
COPIES = "sampan/copies"  # outside of the layout: docker-registry never looks there
PIECE = 1 << 20


class Aliases:
    """Gives blobs the files of their own digests."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def adopt(self, repository: str, digest: Digest, stored: bool) -> int | None:
        """Look at a link that may lead to another digest; return the size of what was copied.

        None where nothing was: the link leads to itself, or nowhere, or the digest is `stored`
        already. Raises OSError if the copy cannot be made: a start that passed this over would
        let a collection take the only copy that there is.
        """
        link = paths.layer_link(repository, digest)
        try:
            target = parse_digest(self._driver.read(link).decode("ascii", "replace").strip())
        except (FileNotFoundError, InvalidArgument):
            return None
        if target == digest:
            return None
        size = None
        if not stored:
            size = self._copy(target, digest)
            if size is None:
                return None
        with self._driver.stage([File(link, digest.encode(), told=True)]) as staged:
            staged.publish()
            staged.settle()
        return size

    def _copy(self, source: Digest, digest: Digest) -> int | None:
        """Copy a blob to its other digest; None if it is gone or has not that digest."""
        temporary = f"{COPIES}/{encoded(digest)}"  # the same after a crash: nothing is left
        hashed = hashlib.new(algorithm(digest))
        try:
            content = self._driver.open(paths.blob(source))
        except FileNotFoundError:
            return None
        with content, self._driver.append(temporary, 0) as writer:
            offset = 0
            while piece := content.read(offset, PIECE):
                hashed.update(piece)
                writer.write(piece)
                offset += len(piece)
            writer.sync()
            version = writer.version
        if f"{algorithm(digest)}:{hashed.hexdigest()}" != digest:
            log.warning("blob %s is left out: what is stored for it is something else", digest)
            self._driver.delete([temporary], within=ANYHOW)
            return None
        target = paths.blob(digest)
        with self._driver.move(temporary, target, version) as moved:
            moved.prepare()
            moved.publish()
        self._driver.settle([target])
        log.info("blob %s was stored as %s and is copied", digest, source)
        return offset
