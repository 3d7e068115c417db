"""`--secret`, `--ssh` and folders of `build`: what the daemon may ask of us while it builds.

Source: docker/buildx util/buildflags/secrets.go, ssh.go; buildkit session/secrets/secretsprovider,
session/sshforward/sshprovider (rules and messages).
"""

from __future__ import annotations

import csv
import os
import stat
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial

from sampan.cli.invocation import Exit
from sampan.client.lent import Lent
from sampan.client.session import Session
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sampan.cli.building.further import Further
    from sampan.cli.invocation import Invocation

_LARGEST = 500 << 10  # bytes of a secret
_DEFAULT = "default"
_STARTED = 10  # seconds until an agent has read its keys


@contextmanager
def lending(
    cli: Invocation, secrets: Sequence[str], agents: Sequence[str], further: Further
) -> Iterator[str]:
    """Serve what the flags say; give the id of the session. Raises Exit."""
    with ExitStack() as stack:
        found = dict(map(_secret, secrets))
        sockets: dict[str, str] = {}
        for one in agents:
            name, _, paths = one.partition("=")
            name = name or _DEFAULT
            if name in sockets:
                raise Exit(1, f'duplicate agent ID "{name}"')
            sockets[name] = _socket(name, paths.split(",") if paths else [], stack)
        client = stack.enter_context(cli.new_client())
        lent = Lent(found, sockets, further.folders, further.layouts)
        yield stack.enter_context(Session(client, lent)).id


def _secret(text: str) -> tuple[str, Callable[[], bytes]]:
    kind, fields = "", {"id": "", "src": "", "env": ""}
    try:
        parts = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise Exit(1, f"failed to parse csv secret: {error}") from None
    for part in parts:
        key, equals, value = part.partition("=")
        key = {"source": "src"}.get(key.lower(), key.lower())
        if not equals:
            raise Exit(1, f"invalid field '{part}' must be a key=value pair")
        if key == "type":
            kind = value
            if kind not in ("file", "env"):
                raise Exit(1, f'unsupported secret type "{kind}"')
        elif key in fields:
            fields[key] = value
        else:
            raise Exit(1, f"unexpected key '{key}' in '{part}'")
    name, path, variable = fields["id"], fields["src"], fields["env"]
    if not name:
        raise Exit(1, "secret missing ID")
    if kind == "env" and not variable:
        path, variable = "", path
    if not (path or variable):
        path, variable = ("", name) if name in os.environ and kind != "file" else (name, "")
    if path:
        return name, _file(name, path)
    return name, partial(_variable, variable or name)


def _variable(name: str) -> bytes:
    return os.environb.get(os.fsencode(name), b"")


def _file(name: str, path: str) -> Callable[[], bytes]:
    """Check a file, and return what reads it."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise Exit(1, f"failed to stat {path}: {_reason(error)}") from None
    if size > _LARGEST:
        raise Exit(1, f"secret {name} too big. max size 500KB")

    def read() -> bytes:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise InvalidArgument(f"invalid secret size: more than {_LARGEST} bytes")
        return content

    return read


def _socket(name: str, paths: Sequence[str], stack: ExitStack) -> str:
    """Return the socket of an agent: the user's, a given one, or one that we start for keys."""
    if not any(paths):
        paths = [os.environ.get("SSH_AUTH_SOCK", "")]
        if not paths[0]:
            raise Exit(1, "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
    try:
        kinds = [stat.S_ISSOCK(os.stat(path).st_mode) for path in paths]
    except OSError as error:
        raise Exit(1, f"stat {error.filename}: {_reason(error)}") from None
    if not any(kinds):
        return stack.enter_context(_agent_of(paths))
    if not all(kinds):
        raise Exit(1, f'agent "{name}": invalid combination of keys and sockets')
    if len(paths) > 1:
        raise Exit(1, f'agent "{name}": only single socket allowed')
    return paths[0]


@contextmanager
def _agent_of(keys: Sequence[str]) -> Iterator[str]:
    """Have an agent with these keys alone; give its socket."""
    with tempfile.TemporaryDirectory(prefix="sampan-ssh-") as folder, ExitStack() as stack:
        path = os.path.join(folder, "agent")
        try:
            agent = subprocess.Popen(  # it stays in front, so that it ends with us
                ["ssh-agent", "-D", "-a", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        except FileNotFoundError:
            raise Exit(1, "keys for SSH need the program ssh-agent, which is not here") from None
        stack.enter_context(agent)
        stack.callback(agent.terminate)
        if agent.stdout:
            agent.stdout.readline()  # it listens, and says where
        for key in keys:
            _add(key, path)
        yield path


def _add(key: str, path: str) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        with open(key, "rb") as file:  # whose mode is the user's affair: `ssh-add FILE` would judge
            added = subprocess.run(
                ["ssh-add", "-q", "-"],
                stdin=file,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_STARTED,
                start_new_session=True,  # without a terminal to ask for a passphrase
                check=False,
            )
    except OSError as error:
        raise Exit(1, f"failed to open {key}: {_reason(error)}") from None
    except subprocess.TimeoutExpired:
        raise Exit(1, f"failed to add {key} to agent: it does not answer") from None
    if added.returncode:
        reason = added.stderr.strip().replace("\n", ": ")
        raise Exit(1, f"failed to add {key} to agent: {reason}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
