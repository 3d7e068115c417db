"""Changes of the files under /etc of a container that runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.networks.etc_files import Edit
from sampan.errors import SampanError
from sampan.runtime.spawner import Spawner

log = logging.getLogger(__name__)


async def edit_files(spawner: Spawner, container: Container, changes: Sequence[Edit]) -> None:
    """Change a container's files where the user has not; a failure is no error of the caller's."""
    for edit in changes:
        try:
            await blocking(spawner.edit, container.id, edit.name, remove=edit.remove, add=edit.add)
        except SampanError as error:
            log.warning("%s of container %s: %s", edit.name, container.short_id, error)
