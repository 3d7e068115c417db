"""What one start of a container has on loan: files and sockets in memory, variables.

Nothing of it is in the container's record, so neither the database nor `inspect` has it, and no
other start gets it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.undisturbed import to_the_end
from sampan.errors import InvalidArgument
from sampan.rpc import Fd
from sampan.runtime.spawner import Source
from sampan.spec.loan import LentAgent, LentFile, Loan
from sampan.spec.runtime import LinuxIDMapping, Mount, Spec
from sampan.spec.user_modes import IdMaps
from sampan.storage.lender import NAME, Lender, Listener

_MOST: Final = 24  # a call of the spawner takes 32 descriptors with it
_FILE: Final = ["rbind", "ro", "nosuid", "nodev", "rprivate"]
_SOCKET: Final = ["rbind", "nosuid", "nodev", "rprivate"]


@dataclass(slots=True)
class Borrowed:
    """A loan, and what a start makes of it; whoever has it closes it."""

    lender: Lender
    loan: Loan
    mounts: list[Mount] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    agents: list[tuple[LentAgent, Fd]] = field(default_factory=list)  # with sockets that listen

    async def make(self, maps: IdMaps | None) -> None:
        """Have it in memory; owners are mapped as those of the container."""
        if len(self.loan.files) + len(self.loan.agents) > _MOST:
            raise InvalidArgument(f"a step can have {_MOST} secrets and SSH agents at most")
        for file in self.loan.files:
            content = os.memfd_create("loan", os.MFD_CLOEXEC)
            with Fd(content) as lent:
                os.write(content, file.content)
                lending = blocking(self.lender.lend_file, lent, file.mode, *_owner(file, maps))
                tree = await to_the_end(lending, Fd.close)
            self._add("/secret", file.target, tree, _FILE)
        for agent in self.loan.agents:
            opening = blocking(self.lender.lend_socket, agent.mode, *_owner(agent, maps))
            listener = await to_the_end(opening, Listener.close)
            self.agents.append((agent, listener.sock))
            self._add("/ssh_agent", agent.target, listener.tree, _SOCKET)

    def _add(self, source: str, target: str, tree: Fd, options: list[str]) -> None:
        self.sources.append(Source(destination=target, subpath=NAME, tree=tree))
        mount = Mount(destination=target, type="bind", source=source, options=list(options))
        self.mounts.append(mount)

    def complete(self, spec: Spec) -> None:
        """Add it to the specification of the container."""
        spec.mounts += self.mounts
        if spec.process:
            names = {entry.partition("=")[0] for entry in self.loan.env}
            others = [it for it in spec.process.env if it.partition("=")[0] not in names]
            spec.process.env = [*others, *self.loan.env]

    def close(self) -> None:
        """Let go of it; what the container has stays until its end."""
        for source in self.sources:
            if source.tree:
                source.tree.close()
        for _, sock in self.agents:
            sock.close()


def _owner(lent: LentFile | LentAgent, maps: IdMaps | None) -> tuple[int, int]:
    if maps is None:
        return lent.uid, lent.gid
    return _on_host(lent.uid, maps.uids), _on_host(lent.gid, maps.gids)


def _on_host(id: int, maps: Iterable[LinuxIDMapping]) -> int:
    for each in maps:
        if each.container_id <= id < each.container_id + each.size:
            return each.host_id + id - each.container_id
    raise InvalidArgument(f"id {id} is not in the user namespace of the container")
