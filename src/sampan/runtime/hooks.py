"""Running the hooks of the OCI specification: the container's state on stdin, a time limit.

Own fork and exec, because startContainer hooks run when Python must not import any more.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sampan.errors import InvalidArgument
from sampan.linux import process
from sampan.linux.namespaces import pidfd_open
from sampan.runtime.starting.channel import reason
from sampan.spec.runtime import Hook, State

OUTPUT = 4096  # bytes of a hook's output that are quoted in an error
PIPE = 65536  # what a pipe takes without a reader
_PIPE_SIGNAL = frozenset({signal.SIGPIPE})


@dataclass(frozen=True, slots=True)
class Prepared:
    """One hook, encoded."""

    path: bytes
    args: list[bytes]
    env: dict[bytes, bytes]
    timeout: float | None


def prepare(hooks: Sequence[Hook]) -> list[Prepared]:
    """Encode hooks; raises InvalidArgument for a relative path."""
    prepared = []
    for hook in hooks:
        if not hook.path.startswith("/"):
            raise InvalidArgument(f'invalid hook path "{hook.path}": it must be absolute')
        env = {}
        for item in hook.env:
            key, _, value = item.encode("utf-8", "surrogateescape").partition(b"=")
            env[key] = value
        args = [item.encode("utf-8", "surrogateescape") for item in hook.args or [hook.path]]
        timeout = None if hook.timeout is None else float(hook.timeout)
        prepared.append(Prepared(os.fsencode(hook.path), args, env, timeout))
    return prepared


def encode_state(state: State) -> bytes:
    """Return the state document as hooks read it."""
    return msgspec.json.encode(state)


def run_all(point: str, hooks: Sequence[Prepared], state: bytes) -> None:
    """Run hooks one after another; raises InvalidArgument for the first that fails."""
    for place, hook in enumerate(hooks):
        try:
            failure = _run(hook, state)
        except OSError as error:
            failure = reason(error)
        if failure:
            raise InvalidArgument(f"error running {point} hook #{place}: {failure}")


def _run(hook: Prepared, state: bytes) -> str:
    """Run one hook; return what went wrong, or ""."""
    read_in, write_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(read_in, True)
    read_out, write_out = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _execute(hook, read_in, write_out)
        os.close(read_in)
        os.close(write_out)
        read_in = write_out = -1
        return _supervise(hook, pid, state, write_in, read_out)
    finally:
        for fd in (read_in, write_in, read_out, write_out):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    pass  # closed when the state was written


def _execute(hook: Prepared, stdin: int, output: int) -> None:
    """Become the hook; never returns."""
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        process.close_range(3)
        os.execve(hook.path, hook.args, hook.env)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, b"exec %s: %s" % (hook.path, reason(error).encode("utf-8", "replace")))
    finally:
        os._exit(127)


def _supervise(hook: Prepared, pid: int, state: bytes, stdin: int, output: int) -> str:
    pidfd = pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    poll.register(stdin, select.POLLOUT)
    deadline = None if hook.timeout is None else time.monotonic() + hook.timeout
    said = b""
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = poll.poll(left)
            if not events:
                _kill(pid)
                return f"context deadline exceeded after {hook.timeout:g} s"
            ready = {fd for fd, _ in events}
            if stdin in ready:
                state = _feed(stdin, state)
                if not state:
                    poll.unregister(stdin)
                    os.close(stdin)
            if output in ready:
                chunk = os.read(output, OUTPUT)
                said = (said + chunk)[-OUTPUT:]
                if not chunk:
                    poll.unregister(output)
            if pidfd in ready and output not in ready:
                break
    finally:
        os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    return _complaint(status, said)


def _complaint(status: int, said: bytes) -> str:
    if status == 0:
        return ""
    code = os.waitstatus_to_exitcode(status)
    ended = f"exit status {code}" if code >= 0 else f"signal {-code}"
    return f"{ended}, output: {said.decode('utf-8', 'replace').strip()}"


def _feed(stdin: int, state: bytes) -> bytes:
    """Write what the pipe takes; return the rest (nothing if the hook does not read)."""
    # A supervisor and an init have the default action of SIGPIPE: they would die without a word.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PIPE_SIGNAL)
    try:
        return state[os.write(stdin, state[:PIPE]) :]
    except (BrokenPipeError, BlockingIOError):
        signal.sigtimedwait(_PIPE_SIGNAL, 0)  # what the write has raised
        return b""
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PIPE_SIGNAL)


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
