"""`state`: the state of a container, as JSON."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, Flag
from sampan.runtime.container import Container

FLAGS: tuple[Flag, ...] = ()
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Print the state."""
    document = described(Container.load(context.root, given.operands[0]))
    sys.stdout.write(shown(document) + "\n")
    return 0


def shown(document: Any) -> str:
    """Return a document as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def described(container: Container) -> dict[str, Any]:
    """Return the state of the specification, and what runc adds to it."""
    document: dict[str, Any] = msgspec.to_builtins(container.state())
    saved = container.saved
    document |= {
        "rootfs": saved.rootfs,
        "created": timestamp(saved.created),
        "owner": owner(saved.owner),
    }
    if not document["annotations"]:
        del document["annotations"]
    return document


def timestamp(nanoseconds: int) -> str:
    """Return a time as RFC 3339 has it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def owner(uid: int) -> str:
    """Return the name of the user who made the container; "" for root, as runc prints."""
    if uid == 0:
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
