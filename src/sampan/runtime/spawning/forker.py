"""The forker: answers the contract, forks containers, learns how they end.

It is a child of the keeper and the parent of the containers. If the keeper dies, it becomes the
keeper itself and its child is the new forker.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable

import msgspec

from sampan.rpc import Connection, Fd
from sampan.runtime import exits
from sampan.runtime.spawning.loop import Loop
from sampan.runtime.spawning.messages import (
    Attached,
    Drained,
    Ended,
    Message,
    StdinClosed,
    Stop,
    added,
    hear,
    tell,
)
from sampan.runtime.spawning.service import Service
from sampan.runtime.spawning.tasks import Key, Task
from sampan.runtime.spawning.world import Launching, NextKeeper, World, fork, half_pair
from sampan.runtime.starting.launch import reap_helpers

log = logging.getLogger(__name__)

CONNECTIONS = 64
_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid
_LAST_WORDS = 5.0  # seconds between the end of the keeper's channel and its own
_ASK_AGAIN, _ASKS = 0.02, 100  # seconds, and how often, for an exit that init has to collect


class Forker:
    """One process in the role of the forker."""

    def __init__(self, world: World, channel: socket.socket, keeper: int) -> None:
        """Take the role; `keeper` is the pidfd of our parent."""
        self.world, self._channel, self._keeper = world, channel, keeper
        self._connections: dict[int, Connection] = {}
        self._launching: dict[int, tuple[Launching, Callable[[], None]]] = {}
        self._unheard: list[Attached] = []  # clients that a dying keeper did not get
        self._service = Service(self)
        self._stopping = self._keeper_lost = False

    def run(self) -> NextKeeper | None:
        """Serve until the spawner ends; in the process that becomes the keeper, return that."""
        self._start_loop()
        while not self._stopping:
            self._loop.turn()
            if self._keeper_lost and (keeper := self._replace_keeper()):
                return keeper
        return None

    # --- for the service -----------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Tell the keeper; if it is gone, its successor will know by birth."""
        while not self._keeper_lost:
            try:
                tell(self._channel, message)
            except ConnectionError:  # EPIPE, ECONNRESET
                self._keeper_lost = True
            except OSError as error:  # ETOOMANYREFS, ENOBUFS: the keeper must catch up first
                log.warning("the keeper is busy: %s", error.strerror)
                time.sleep(0.01)
            else:
                return
        if isinstance(message, Attached):
            self._unheard.append(
                msgspec.structs.replace(message, sock=Fd(os.dup(message.sock.number)))
            )

    def when_ready(self, launching: Launching, action: Callable[[], None]) -> None:
        """Call `action` when `launching` can be finished without waiting."""
        descriptor = launching.fileno()
        self._launching[descriptor] = (launching, action)
        self._loop.watch(descriptor, select.EPOLLIN, lambda _: self._launched(descriptor))

    def add(self, task: Task) -> None:
        """Take a task that runs into the table, and give it to the keeper."""
        self.world.tasks[task.record.key] = task
        self.tell(added(task))
        self._watch_task(task)

    def forget(self, key: Key) -> Task | None:
        """Take a task out of the table; its descriptors are still open."""
        task = self.world.tasks.pop(key, None)
        if task and task.pidfd >= 0:
            self._loop.forget(task.pidfd)
        return task

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `seconds`."""
        self._loop.later(seconds, action)

    # --- descriptors ---------------------------------------------------------------------------

    def _start_loop(self) -> None:
        self._loop = Loop()
        self._service.resume()
        self._listen()
        self._loop.watch(self._channel.fileno(), select.EPOLLIN, self._on_channel)
        self._loop.watch(self._keeper, select.EPOLLIN, self._on_keeper_end)
        for connection in self._connections.values():
            self._watch_connection(connection)
        for task in self.world.running():
            self._watch_task(task)

    def _listen(self) -> None:
        self._loop.watch(self.world.listener.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self.world.listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors left: to try at once again would only spin
            log.warning("a connection was not accepted: %s", error)
            self._loop.forget(self.world.listener.fileno())
            self._loop.later(1, self._listen)
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        if uid not in (0, self.world.uid) or len(self._connections) >= CONNECTIONS:
            log.warning("a connection of user %d was refused", uid)
            sock.close()
            return
        connection = Connection(sock, self.world.contract, self._service)
        self._connections[sock.fileno()] = connection
        self._watch_connection(connection)

    def _watch_connection(self, connection: Connection) -> None:
        self._loop.watch(connection.fileno(), select.EPOLLIN, lambda _: self._answer(connection))

    def _answer(self, connection: Connection) -> None:
        try:
            alive = connection.answer_one()
        except Exception:  # a fault in one call must not leave its connection hanging
            log.exception("a connection is closed")
            alive = False
        if not alive:
            del self._connections[connection.fileno()]
            self._loop.forget(connection.fileno())
            connection.sock.close()

    def _launched(self, descriptor: int) -> None:
        _, action = self._launching.pop(descriptor)
        self._loop.forget(descriptor)
        action()
        self._loop.later(0.05, reap_helpers)

    def _on_channel(self, _: int) -> None:
        message = hear(self._channel)
        if message is None:
            self._loop.forget(self._channel.fileno())  # the pidfd tells when it is over
        else:
            self._apply(message)

    def _on_keeper_end(self, _: int) -> None:
        self._keeper_lost = True

    def _apply(self, message: Message) -> None:
        if isinstance(message, Stop):
            self._stopping = not self.world.running() and not self._launching
            if self._stopping:
                self._service.finish()
            return
        if isinstance(message, Ended):
            task = self.world.tasks.get(message.record.key)
            if task and not task.ended:
                task.record = message.record
                self._stop_watching(task)
        elif isinstance(message, Drained):
            if task := self.world.tasks.get((message.id, message.exec_id)):
                self._drained(task)
        elif isinstance(message, StdinClosed):
            task = self.world.tasks.get((message.id, message.exec_id))
            if task and task.stdin >= 0:
                os.close(task.stdin)
                task.stdin = -1

    # --- ends ----------------------------------------------------------------------------------

    def _watch_task(self, task: Task) -> None:
        if task.pidfd >= 0:
            self._loop.watch(task.pidfd, select.EPOLLIN, lambda _: self._collect(task))

    def _stop_watching(self, task: Task) -> None:
        if task.pidfd >= 0:
            self._loop.forget(task.pidfd)

    def _collect(self, task: Task, asked: int = 0) -> None:
        """Learn how a task ended; told to all before the kernel may forget it."""
        if task.ended:
            return
        try:
            code = exits.waited(task.pidfd)
        except ChildProcessError:
            self._stop_watching(task)  # the keeper is its parent, and tells
            if task.record.adopted:
                self._ask_kernel(task, asked)
            return
        if code is None:
            return
        self._stop_watching(task)
        self._end(task, code)
        exits.reap(task.pidfd)

    def _ask_kernel(self, task: Task, asked: int) -> None:
        code = exits.told_by_kernel(task.pidfd)
        if code is None and asked < _ASKS:  # the kernel knows once its new parent has collected it
            self._loop.later(_ASK_AGAIN, lambda: self._collect(task, asked + 1))
            return
        if code is None:
            task.record.lost += " Its exit code could not be learned."
            task.record.lost = task.record.lost.strip()
        self._end(task, code)

    def _end(self, task: Task, code: int | None) -> None:
        exits.conclude(task, code)
        self.world.state.save_if_possible(task.record)
        self.tell(Ended(record=task.record))

    def _drained(self, task: Task) -> None:
        task.drained = True
        task.close_streams()
        waiters, task.waiters = task.waiters, []
        for waiter in waiters:
            waiter.resolve(task.status())

    # --- the keeper's successor ----------------------------------------------------------------

    def _replace_keeper(self) -> NextKeeper | None:
        """Fork: the parent becomes the keeper (and returns that role), the child goes on here."""
        if not select.select([self._keeper], [], [], _LAST_WORDS)[0]:
            signal.pidfd_send_signal(self._keeper, signal.SIGKILL)  # there must not be two
        log.warning("the keeper has ended; taking its place")
        self._hear_last_words()
        for descriptor in list(self._launching):
            self._launched(descriptor)
        for task in self.world.running():
            self._adopt_if_orphaned(task)
        ours, theirs = half_pair()
        parent = os.pidfd_open(os.getpid())
        child = fork()
        self._loop.close()
        os.close(self._keeper)
        self._channel.close()
        if child:
            theirs.close()
            os.close(parent)
            self._leave()
            return NextKeeper(ours, child, self._unheard)
        ours.close()
        for message in self._unheard:
            message.sock.close()
        self._unheard = []
        self._channel, self._keeper, self._keeper_lost = theirs, parent, False
        self._start_loop()
        return None

    def _hear_last_words(self) -> None:
        """Take what the dead keeper has said; a child of its may still hold the channel open."""
        self._channel.setblocking(False)
        try:
            while (message := hear(self._channel)) is not None:
                self._apply(message)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("the keeper's last message is lost: %s", error)

    def _adopt_if_orphaned(self, task: Task) -> None:
        try:
            exits.waited(task.pidfd)
        except ChildProcessError:  # it was the keeper's child; init's now
            task.record.adopted = True

    def _leave(self) -> None:
        """Close what belongs to the forker, in the process that is not any more."""
        for connection in self._connections.values():
            connection.sock.close()
        self._connections = {}
        for task in self.world.tasks.values():
            task.waiters = []
