"""The audit log: who did what, when, from where, and with what result; one JSON object a line.

Each line carries a hash of itself and of the line before it (with a key, one that nobody can make
who has not the key), so a line that was changed, moved or taken out is found. Whoever cuts off the
end is found by comparing with a copy. The file may be renamed at any time: the next line begins
another.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.registry.auth.basic import credentials
from sampan.registry.observability import controls
from sampan.registry.observability.answered import Answered
from sampan.registry.service import GROUPS, HANDLER, USER

log = logging.getLogger(__name__)
TEXT_LENGTH = 512  # of what clients choose
TAIL = 64 << 10  # a line is shorter
_CHAIN = re.compile(rb'(.*),"chain":"([0-9a-f]{64})"\}', re.DOTALL)
# (route, method) → what it is called. What is not here is nobody's business.
ACTIONS = {
    ("manifest", "GET"): "pull",
    ("manifest", "PUT"): "push",
    ("manifest", "DELETE"): "delete",
    ("blob", "GET"): "pull blob",
    ("blob", "DELETE"): "delete blob",
    ("blob_upload", "POST"): "begin",
    ("blob_upload_chunk", "PUT"): "push blob",
    ("catalog", "GET"): "list",
    ("search", "GET"): "search",
    ("base", "GET"): "login",
    ("token", "GET"): "token",
    ("token", "POST"): "token",
}
QUIET = frozenset({"pull blob", "begin", "login", "list", "search"})  # told where they are refused
REFUSALS = (401, 403, 429)


@dataclass(frozen=True, slots=True)
class Broken:
    """A place where a log is not what was written."""

    path: Path
    line: int
    reason: str


class AuditLog:
    """Appends to one file. Safe to use from several threads; a failure is logged, not raised."""

    def __init__(self, path: Path, key: bytes = b"", ignored: Sequence[str] = ()) -> None:
        self._path = path
        self._key = key
        self._ignored = frozenset(ignored)
        self._lock = threading.Lock()
        self._file = -1
        self._chain = ""
        self._more: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._open()

    def _open(self) -> None:
        """Open the file, and go on from its last line; a new one says what came before it."""
        self._close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        size = os.fstat(self._file).st_size
        if not size:
            self._more = {"previous": self._chain}
            return
        tail = os.pread(self._file, TAIL, max(0, size - TAIL))
        whole, _, torn = tail.rpartition(b"\n")
        if torn:  # the machine stopped within a line
            os.write(self._file, b"\n")
            self._more = {"torn": True}
        match = _CHAIN.fullmatch(whole.rpartition(b"\n")[2])
        self._chain = match[2].decode() if match else ""
        if not match:
            self._more |= {"previous": ""}

    def write(self, action: str, **fields: Any) -> None:
        """Write a line down, unless its action is ignored."""
        if action in self._ignored:
            return
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self._lock:
            try:
                if self._is_elsewhere():
                    self._open()
                record = {"time": moment, "action": action, **fields, **self._more}
                text = (
                    msgspec.json.encode(record)[:-1].decode().translate(controls.ESCAPED).encode()
                )
                chain = _hash(self._key, self._chain, text)
                line = text + f',"chain":"{chain}"}}\n'.encode()
                if os.write(self._file, line) != len(line):
                    raise OSError("the line was not written whole")
            except OSError as error:
                log.error("%s: the audit log is not written: %s", self._path, error)
                self._close()  # the next line finds out where we are
            else:
                self._chain, self._more = chain, {}

    def _is_elsewhere(self) -> bool:
        """Tell whether the file is not (any more) where it should be."""
        if self._file < 0:
            return True
        try:
            there, ours = os.stat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()


class Audited:
    """An application around another one that writes down what is asked of it."""

    def __init__(self, application: ASGIApp, audit: AuditLog) -> None:
        self._application = application
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        answered = Answered(scope, send)
        try:
            await self._application(scope, receive, answered)
        finally:
            if answered.status:
                self._tell(scope, answered)

    def _tell(self, scope: Scope, answered: Answered) -> None:
        action = ACTIONS.get((scope.get(HANDLER, ""), scope["method"]), "")
        if action == "begin" and answered.status == 201:
            action = "mount" if b"mount=" in scope["query_string"] else "push blob"
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        authorization = headers.get(b"authorization", "")
        # Without a login the first request of every client is refused; that tells nothing.
        refused = answered.status in REFUSALS and (answered.status != 401 or authorization)
        quiet = action in QUIET or (answered.status == 401 and not authorization)
        if not action or (quiet and not refused):
            return
        given = credentials(authorization)
        # Whom we asked for no password is who he says only where he is refused.
        user = scope.get(USER, "") or (given[0] if given and refused else "")
        groups: Mapping[str, str] = scope.get(GROUPS, {})
        found = {
            "user": user,
            "address": (scope.get("client") or ("",))[0],
            "repository": groups.get("name", ""),
            "reference": groups.get("reference") or groups.get("digest", ""),
            "query": scope["query_string"].decode("latin-1"),
            "agent": headers.get(b"user-agent", ""),
        }
        if action in ("pull", "token"):
            found["query"] = ""
        told = {key: value[:TEXT_LENGTH] for key, value in found.items() if value}
        result = "done" if answered.status < 400 else "refused" if refused else "failed"
        self._audit.write(action, result=result, status=answered.status, **told)


def _hash(key: bytes, previous: str, text: bytes) -> str:
    return hmac.digest(key, previous.encode() + b"\n" + text, hashlib.sha256).hex()


def verify(paths: Sequence[Path], key: bytes = b"") -> Iterator[Broken]:
    """Read logs, the oldest first; yield where a line is not what was written, or is missing."""
    chain: str | None = None
    for path in paths:
        torn = 0
        number = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                match = _CHAIN.fullmatch(line.rstrip(b"\n"))
                record = _record(match[1] + b"}") if match else None
                if match is None or record is None:
                    if torn:
                        yield Broken(path, torn, "it is no record")
                    torn = number
                    continue
                if torn and record.get("torn") is not True:
                    yield Broken(path, torn, "it is no record")
                torn = 0
                previous = str(record.get("previous", "")) if "previous" in record else chain
                if chain is not None and previous != chain:
                    yield Broken(path, number, "it does not follow the line before it")
                elif previous is None:
                    yield Broken(path, number, "the file does not begin here")
                elif not hmac.compare_digest(_hash(key, previous, match[1]), match[2].decode()):
                    yield Broken(path, number, "it was changed, or a line before it is missing")
                chain = match[2].decode()
        if torn:
            yield Broken(path, number, "it ends within a record")


def _record(text: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except ValueError:
        return None
