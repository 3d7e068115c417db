"""Programs that keep credentials: `docker-credential-NAME get|store|erase`.

A helper reads the server, or a JSON document, on standard input and answers on standard output.
Source: docker-credential-helpers client/client.go, credentials/error.go.
"""

from __future__ import annotations

import os

from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "docker-credential-"
NOT_FOUND = "credentials not found in native keychain"
# What a helper says on standard output about a request that it does not accept.
COMPLAINTS = ("no credentials server URL", "no credentials username")
ANSWER_BYTES = 1 << 20


def default_store() -> str:
    """Return the helper for logins where config.json names none; empty if it is not installed."""
    store = "pass" if _is_installed("pass") else "secretservice"
    return store if _is_installed(PREFIX + store) else ""


def _is_installed(program: str) -> bool:
    return any(
        os.access(os.path.join(folder, program), os.X_OK)
        for folder in os.environ.get("PATH", "").split(os.pathsep)
        if folder
    )


def get(helper: str, server: str) -> tuple[str, str]:
    """Return user name and secret; both empty if the helper has none.

    Raises Internal with docker's sentence if the helper fails.
    """
    status, out = _run(helper, "get", server.encode())
    if status:
        if out == NOT_FOUND:
            return "", ""
        raise _failure("getting", status, out)
    from sampan.client import documents

    try:
        answer: Any = documents.decode(out.encode())
        return str(answer.get("Username", "")), str(answer.get("Secret", ""))
    except (ValueError, AttributeError):
        raise Internal(f"error getting credentials: {PREFIX}{helper} answered no JSON") from None


def store(helper: str, server: str, name: str, secret: str) -> None:
    """Keep a user name and a secret. Raises Internal."""
    from sampan.client import documents

    document = {"ServerURL": server, "Username": name, "Secret": secret}
    status, out = _run(helper, "store", documents.encode(document) + b"\n")
    if status:
        raise _failure("storing", status, out)


def erase(helper: str, server: str) -> None:
    """Forget a server. Raises Internal."""
    status, out = _run(helper, "erase", server.encode())
    if status:
        raise _failure("erasing", status, out)


def _failure(doing: str, status: str, out: str) -> Internal:
    reason = out if out in COMPLAINTS else status
    return Internal(f"error {doing} credentials - err: {reason}, out: `{out}`")


def _run(helper: str, action: str, data: bytes) -> tuple[str, str]:
    """Return what went wrong (empty: nothing) and the answer, both in Go's words."""
    import subprocess

    program = PREFIX + helper
    if "/" in helper or not _is_installed(program):
        return f'exec: "{program}": executable file not found in $PATH', ""
    process = subprocess.Popen(
        [program, action], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
    )
    out, _ = process.communicate(data)
    text = out[:ANSWER_BYTES].decode(errors="replace").strip()
    if process.returncode < 0:
        import signal

        word = signal.strsignal(-process.returncode) or str(-process.returncode)
        return f"signal: {word.lower()}", text
    return f"exit status {process.returncode}" if process.returncode else "", text
