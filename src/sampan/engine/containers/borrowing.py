"""What one start of a container has on loan: files and sockets in memory, copies, variables.

Nothing of it is in the container's record, so neither the database nor `inspect` has it, and no
other start gets it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.undisturbed import to_the_end, undisturbed
from sampan.errors import InvalidArgument
from sampan.rpc import Fd
from sampan.runtime.spawner import Source
from sampan.spec.loan import LentAgent, LentFile, Loan
from sampan.spec.names import new_id
from sampan.spec.runtime import LinuxIDMapping, Mount, Spec
from sampan.spec.user_modes import IdMaps
from sampan.storage.lender import NAME, Lender, Listener
from sampan.storage.mounter import Mounter

_MOST: Final = 24  # a call of the spawner takes 32 descriptors with it
_FILE: Final = ["rbind", "ro", "nosuid", "nodev", "rprivate"]
_COPY: Final = ["rbind", "rprivate"]
_SOCKET: Final = ["rbind", "nosuid", "nodev", "rprivate"]


@dataclass(slots=True)
class Borrowed:
    """A loan, and what a start makes of it; whoever has it closes it."""

    lender: Lender
    mounter: Mounter
    loan: Loan
    mounts: list[Mount] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    agents: list[tuple[LentAgent, Fd]] = field(default_factory=list)  # with sockets that listen
    _copies: list[str] = field(default_factory=list)  # keys of snapshots

    async def make(self, maps: IdMaps | None, namespace: Fd | None) -> None:
        """Have it all; owners are mapped as those of the container, which is in `namespace`."""
        loan = self.loan
        if len(loan.files) + len(loan.agents) + len(loan.copies) > _MOST:
            raise InvalidArgument(f"a step can have {_MOST} secrets and SSH agents at most")
        for copy in sorted(loan.copies, key=lambda copy: copy.target.count("/")):
            key = new_id()
            self._copies.append(key)
            await undisturbed(self.mounter.prepare, key, copy.chain)
            tree = await to_the_end(blocking(self.mounter.mount, key, user=namespace), Fd.close)
            self._add(f"/{copy.subpath}", copy.target, tree, _COPY, copy.subpath)
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

    def _add(
        self, source: str, target: str, tree: Fd, options: list[str], subpath: str = NAME
    ) -> None:
        self.sources.append(Source(destination=target, subpath=subpath, tree=tree))
        mount = Mount(destination=target, type="bind", source=source, options=list(options))
        self.mounts.append(mount)

    def complete(self, spec: Spec) -> None:
        """Add it to the specification of the container."""
        for mount in self.mounts:  # before what is mounted below it
            below = f"{mount.destination}/"
            places = (at for at, it in enumerate(spec.mounts) if it.destination.startswith(below))
            spec.mounts.insert(next(places, len(spec.mounts)), mount)
        if spec.process:
            names = {entry.partition("=")[0] for entry in self.loan.env}
            others = [it for it in spec.process.env if it.partition("=")[0] not in names]
            spec.process.env = [*others, *self.loan.env]

    async def leave(self) -> None:
        """Let go of it. What the container has in memory stays until its end; copies go."""
        for source in self.sources:
            if source.tree:
                source.tree.close()
        for _, sock in self.agents:
            sock.close()
        for key in self._copies:
            await blocking(self.mounter.remove, key)


def _owner(lent: LentFile | LentAgent, maps: IdMaps | None) -> tuple[int, int]:
    if maps is None:
        return lent.uid, lent.gid
    return _on_host(lent.uid, maps.uids), _on_host(lent.gid, maps.gids)


def _on_host(id: int, maps: Iterable[LinuxIDMapping]) -> int:
    for each in maps:
        if each.container_id <= id < each.container_id + each.size:
            return each.host_id + id - each.container_id
    raise InvalidArgument(f"id {id} is not in the user namespace of the container")
