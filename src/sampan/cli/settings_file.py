"""Writing the user's config.json: complete or not at all, readable by nobody else."""

from __future__ import annotations

import json
import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER_MODE = 0o700


def write(path: str, settings: Mapping[str, object]) -> None:
    """Replace the file, or the one that it links to. It keeps its owner. Raises OSError.

    The new file has mode 0600: mkstemp makes it so, and it may hold passwords.
    """
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, FOLDER_MODE, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=name, dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            json.dump(settings, file, indent="\t", ensure_ascii=False)
            file.flush()
            os.fsync(descriptor)
        _keep_owner(path, temporary)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _keep_owner(path: str, temporary: str) -> None:
    try:
        before = os.stat(path)
        os.chown(temporary, before.st_uid, before.st_gid)
    except OSError:
        pass  # it is new, or belongs to somebody else and will now be ours
