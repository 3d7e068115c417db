"""RUN --mount=type=secret and type=ssh: what a step has from the client, in memory alone.

The client is asked when the step runs: contents are in no id_. Source: buildkit
dockerfile2llb/convert_secrets.go, convert_ssh.go, client/llb/exec.go (names and defaults),
solver/llbsolver/mounts/mount.go, ops/exec.go (messages).
"""

from __future__ import annotations

import posixpath
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from sampan.build.caching.cache import key_of
from sampan.build.instructions.model import Mount as Wish
from sampan.build.mounts.prepared import Prepared, place_of
from sampan.build.worker import Clients
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import RunStep
from sampan.spec.loan import LentAgent, LentFile

LARGEST: Final = 500 << 10  # bytes of a secret. Source: buildkit secretsprovider.go
_MODE: Final = 0o777
_AGENT: Final = "SSH_AUTH_SOCK"


class Borrowing:
    """What the client of one build lends."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def secret(self, wish: Wish, working_dir: str, prepared: Prepared) -> None:
        """Have a secret of the client, as a file or a variable or both."""
        id_ = wish.source or wish.id or posixpath.basename(posixpath.normpath(wish.target))
        try:
            id_.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"the id of a secret is not UTF-8: {id_!r}") from None
        target = wish.target
        if not target and wish.env is None:
            target = f"/run/secrets/{posixpath.basename(id_.rstrip('/')) or id_}"
        if target:
            target = place_of(working_dir, target)
            prepared.targets.append(target)
        mode = 0o400 if wish.mode is None else wish.mode & _MODE
        name = id_.rpartition("/")[2] if wish.env == "" else wish.env
        owner = f"{wish.uid}:{wish.gid} {mode:o}"

        async def make(stack: AsyncExitStack, step: RunStep) -> None:
            content = await self._content(id_, required=wish.required)
            if name is not None:
                step.loan.env.append(_variable(name, id_, content or b""))
            if target and content is None:
                prepared.targets.remove(target)  # nothing is made there
            elif target:
                file = LentFile(
                    target=target, mode=mode, uid=wish.uid, gid=wish.gid, content=content or b""
                )
                step.loan.files.append(file)

        prepared.keys.append(key_of("secret", id_, target, owner, name or ""))
        prepared.makers.append(make)

    async def _content(self, id: str, *, required: bool) -> bytes | None:
        content = await self._clients.secret(id)
        if content is None and required:
            raise InvalidArgument(f"secret {id}: not found")
        if content is not None and len(content) > LARGEST:
            raise InvalidArgument(f"secret {id}: invalid secret size {len(content)}")
        return content

    def agent(self, wish: Wish, working_dir: str, prepared: Prepared) -> None:
        """Have a way to an SSH agent of the client."""
        id_ = wish.id or "default"
        if not (id_.isascii() and id_.isprintable()):
            raise InvalidArgument(f"the id of an SSH agent has letters beyond ASCII: {id_!r}")
        default = f"/run/buildkit/ssh_agent.{prepared.agents}"
        target = place_of(working_dir, wish.target or default)
        mode = 0o600 if wish.mode is None else wish.mode & _MODE
        owner = f"{wish.uid}:{wish.gid} {mode:o}"

        async def make(stack: AsyncExitStack, step: RunStep) -> None:
            if not any(entry.startswith(f"{_AGENT}=") for entry in step.env):
                step.env.append(f"{_AGENT}={target}")
            try:
                await self._clients.check_agent(id_)
            except NotFound as error:
                if wish.required:
                    raise InvalidArgument(str(error)) from None
                prepared.targets.remove(target)
                return
            forward = partial(self._clients.forward, id_)
            lent = LentAgent(target=target, mode=mode, uid=wish.uid, gid=wish.gid, forward=forward)
            step.loan.agents.append(lent)

        prepared.agents += 1
        prepared.keys.append(key_of("ssh", id_, target, owner))
        prepared.targets.append(target)
        prepared.makers.append(make)


def _variable(name: str, id: str, content: bytes) -> str:
    """Return a variable with a secret; InvalidArgument, without it, if that cannot be."""
    if not name or "=" in name or "\0" in name:
        raise InvalidArgument(f"secret {id}: invalid variable name {name!r}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidArgument(f"secret {id}: cannot be the variable {name}: it is not text")
    return f"{name}={text}"
