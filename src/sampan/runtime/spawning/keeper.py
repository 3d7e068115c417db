"""The keeper: relays streams, writes logs, collects the children that nobody else has.

It is the parent of the forker and the subreaper of all containers. If the forker dies, it makes a
new one from itself.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from sampan.linux.cgroups.processes import PATIENCE
from sampan.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from sampan.runtime import exits
from sampan.runtime.spawning.loop import Loop
from sampan.runtime.spawning.messages import (
    Added,
    Attached,
    Changed,
    Ended,
    Message,
    Removed,
    Stop,
    hear,
    tell,
)
from sampan.runtime.spawning.relay import Relay
from sampan.runtime.spawning.removals import clear
from sampan.runtime.spawning.tasks import Key, Task
from sampan.runtime.spawning.world import (
    NextForker,
    World,
    cgroups_of,
    children,
    fork,
    half_pair,
    ignore,
    quiet_signals,
)

log = logging.getLogger(__name__)

EPOLLIN, EPOLLOUT = 1, 4
QUICK_DEATHS = 5  # forkers that ended within a second, one after the other


class Keeper:
    """One process in the role of the keeper."""

    def __init__(
        self,
        world: World,
        channel: socket.socket | None = None,
        forker: int = 0,
        attached: Iterable[Attached] = (),
    ) -> None:
        """Take the role; without a `channel` to a `forker`, `run` makes one first.

        `attached` are clients that the keeper before has not heard of.
        """
        self._world, self._channel, self._forker = world, channel, forker
        self._attached = list(attached)
        self._unsent: deque[Message] = deque()
        self._stopping = False
        self._forked_at, self._deaths = 0.0, 0

    def run(self) -> NextForker | None:
        """Relay until the spawner ends; in the child that becomes the forker, return that role."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.pwrite(self._world.lock, b"%-10d\n" % os.getpid(), 0)  # for `stop`
        self._loop = Loop()
        self._relay = Relay(self._loop, self._world.journal, self._tell, self._world.open_log)
        self._listen_for_signals()
        self._restore()
        if self._channel is not None:
            self._connect(self._channel)
        self._on_signal(0)
        while True:
            if not self._forker:
                if self._stopping and not self._world.running():
                    return None
                if forker := self._make_forker():
                    return forker
            self._loop.turn()

    # --- signals and children ------------------------------------------------------------------

    def _listen_for_signals(self) -> None:
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, ignore)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._loop.watch(self._wake.fileno(), EPOLLIN, self._on_signal)

    def _on_terminate(self, *_: object) -> None:
        self._stopping = True

    def _on_signal(self, _: int) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass
        if self._stopping:
            self._stop()
        self._collect()

    def _stop(self) -> None:
        if self._world.running():
            log.info("not stopping: containers run")
            self._stopping = False
        elif self._forker:
            self._tell(Stop())

    def _collect(self) -> None:
        """Collect every child that has ended: the forker, orphaned tasks, helpers."""
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            if info.si_pid == self._forker:
                self._forker = 0
                if not self._stopping:
                    log.warning("the forker has ended; making a new one")
                self._hear_last_words()
            else:
                for task in self._world.tasks.values():
                    if task.record.pid == info.si_pid and not task.ended:
                        self._end(task, exits.code(info))
            os.waitid(os.P_PID, info.si_pid, os.WEXITED | os.WNOHANG)

    def _end(self, task: Task, code: int) -> None:
        exits.conclude(task, code)
        self._world.state.save_if_possible(task.record)
        self._tell(Ended(record=task.record))
        self._relay.hub(task.record.key).end()

    # --- the forker ----------------------------------------------------------------------------

    def _make_forker(self) -> NextForker | None:
        """Fork; return the forker's role in the child, None in the parent."""
        self._clear_interrupted_starts()
        self._deaths = self._deaths + 1 if time.monotonic() - self._forked_at < 1 else 0
        if self._deaths > QUICK_DEATHS:
            time.sleep(0.2)  # whatever ends it at once must not make us busy
        self._forked_at = time.monotonic()
        ours, theirs = half_pair()
        keeper = os.pidfd_open(os.getpid())
        child = fork()
        if not child:
            ours.close()
            quiet_signals()
            signal.signal(signal.SIGTERM, ignore)  # not SIG_IGN, which containers would inherit
            self._leave()
            return NextForker(theirs, keeper)
        theirs.close()
        os.close(keeper)
        self._forker = child
        self._unsent.clear()
        self._connect(ours)
        return None

    def _connect(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._loop.watch(channel.fileno(), EPOLLIN, self._on_channel)

    def _leave(self) -> None:
        """Close what belongs to the keeper, in the child that is not."""
        self._relay.abandon()
        self._wake.close()
        self._waker.close()
        self._loop.close()

    def _hear_last_words(self) -> None:
        """Take what the dead forker has said; a child of its may still hold the channel open."""
        channel = self._channel
        if channel is None:
            return
        with suppress(BlockingIOError):
            while (message := hear(channel)) is not None:
                self._apply(message)
        self._loop.forget(channel.fileno())
        channel.close()
        self._channel = None

    def _clear_interrupted_starts(self) -> None:
        """End what the forker had begun and could not tell of any more."""
        unsettled = list(self._world.state.unsettled())
        paths = {path for _, path in unsettled}
        deadline = time.monotonic() + PATIENCE
        while (starting := self._starting(paths)) and time.monotonic() < deadline:
            for pid in starting:  # and wait: one may be in the middle of making a cgroup
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
            self._collect()
        for container, path in unsettled:
            log.warning("what is left of container %s is cleared", container[:12])
            self._relay.remove((container, ""))
            if clear(path):
                self._world.state.remove((container, ""))
            else:
                self._world.state.leave(container, path)  # the next forker goes on

    def _starting(self, paths: set[str]) -> list[int]:
        """Return the children that are on their way into a container.

        Other children that nobody knows are orphans of containers that share our pid namespace:
        those are in the cgroup of their container, which was settled before.
        """
        known = {task.record.pid for task in self._world.tasks.values()}
        own = cgroups_of(os.getpid())
        found = []
        for pid in children():
            if pid not in known and (places := cgroups_of(pid)):
                inside = {line.split(":", 2)[2] for line in places.splitlines()}
                if places == own or inside & paths:
                    found.append(pid)
        return found

    # --- messages ------------------------------------------------------------------------------

    def _tell(self, message: Message) -> None:
        self._unsent.append(message)
        self._send()

    def _send(self) -> None:
        channel = self._channel
        if channel is None:
            self._unsent.clear()  # a new forker will know by birth
            return
        try:
            while self._unsent:
                tell(channel, self._unsent[0])
                self._unsent.popleft()
        except OSError:
            pass  # full: the loop goes on when there is room; or gone: its end will be collected
        events = EPOLLIN | EPOLLOUT if self._unsent else EPOLLIN
        self._loop.watch(channel.fileno(), events, self._on_channel)

    def _on_channel(self, events: int) -> None:
        channel = self._channel
        if channel is None:
            return
        if events & EPOLLOUT:
            self._send()
        if events & ~EPOLLOUT:
            try:
                message = hear(channel)
            except BlockingIOError:
                return
            if message is not None:
                self._apply(message)
            else:
                self._loop.forget(channel.fileno())  # SIGCHLD follows

    def _apply(self, message: Message) -> None:
        tasks = self._world.tasks
        if isinstance(message, Added):
            task = message.task()
            tasks[task.record.key] = task
            self._relay.hub(task.record.key).start(task)
        elif isinstance(message, Attached):
            self._attach(message)
        elif isinstance(message, Ended | Changed):
            known = tasks.get(message.record.key)
            if known:
                was_running = not known.ended
                known.record = message.record
                if was_running and known.ended:
                    self._relay.hub(known.record.key).end()
        elif isinstance(message, Removed):
            self._remove((message.id, message.exec_id))

    def _remove(self, key: Key) -> None:
        gone = self._world.tasks.pop(key, None)
        hub = self._relay.hubs.get(key)
        # Clients that have attached since its end wait for the next start.
        if hub and (gone is None or hub.task is gone):
            self._relay.remove(key)
        if gone:
            gone.close()

    def _attach(self, message: Attached) -> None:
        wants = [number for number, wanted in ((1, message.stdout), (2, message.stderr)) if wanted]
        self._relay.attach(
            (message.id, message.exec_id),
            socket.socket(fileno=message.sock.detach()),
            frozenset(wants),
            stdin=message.stdin,
        )

    # --- taking over ---------------------------------------------------------------------------

    def _restore(self) -> None:
        """Connect the streams of all tasks, and finish what a killed keeper had begun."""
        for key, task in self._world.tasks.items():
            if not task.drained:
                self._relay.hub(key).start(task, resumed=True)
        journal = self._world.journal
        left = journal.unfinished()
        if left is not None and left.slot >= 0:
            for hub in self._relay.hubs.values():
                for output in hub.outputs:
                    if output.slot == left.slot and hub.log:
                        hub.log.truncate(left.log_size)
                        hub.deliver(output, left.data)
        journal.resume()
        for message in self._attached:
            self._attach(message)
        self._attached = []
        for key, task in list(self._world.tasks.items()):
            if task.ended and not task.drained:
                self._relay.hub(key).end()
