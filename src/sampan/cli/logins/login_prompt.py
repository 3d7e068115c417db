"""Asking for a user name and a password on the terminal."""

from __future__ import annotations

import os

from sampan.cli.invocation import Exit
from sampan.cli.logins.registry_auth import HUB_KEY
from sampan.spec.booleans import TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

HUB_HINT = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one."
)
TOKEN_HINT = (
    "You can log in with your password or a Personal Access Token (PAT). "  # noqa: S105
    "Using a limited-scope PAT grants better security and is required for organizations using "
    "SSO. Learn more at https://docs.docker.com/go/access-tokens/"
)
TOKEN_NOTE = "A Personal Access Token (PAT) can be used instead.\nTo create a PAT, visit {}\n\n"  # noqa: S105
TOKEN_PAGE = "https://app.docker.com/settings"  # noqa: S105


def ask_login(
    cli: Invocation, server: str, name: str, password: str, known_name: str
) -> tuple[str, str]:
    """Return name and password, asking for what is empty; `known_name` is taken for an empty line.

    Raises Exit if nothing is typed.
    """
    name = name.strip()
    if not name:
        name = _ask_name(cli, server, known_name.strip())
    password = password.strip()
    if not password:
        password = _ask_password(cli, server)
    return name, password


def _ask_name(cli: Invocation, server: str, known: str) -> str:
    if server == HUB_KEY:
        cli.out.line(HUB_HINT)
        if _hints(cli):
            cli.out.line(TOKEN_HINT)
            cli.out.line()
    name = read_line(cli, f"Username ({known}): " if known else "Username: ") or known
    if not name:
        raise Exit(1, "Error: Non-null Username Required")
    return name


def _ask_password(cli: Invocation, server: str) -> str:
    import signal
    import termios

    try:
        saved = termios.tcgetattr(0)
    except termios.error as error:
        raise Exit(1, str(error.args[-1]).lower()) from None
    quiet = [*saved]
    quiet[3] &= ~termios.ECHO
    before = signal.signal(signal.SIGTERM, _terminated)
    termios.tcsetattr(0, termios.TCSANOW, quiet)
    try:
        if server == HUB_KEY:
            _note_of_tokens(cli)
        password = read_line(cli, "Password: ")
        cli.out.line()
        cli.out.flush()
    finally:
        termios.tcsetattr(0, termios.TCSANOW, saved)
        signal.signal(signal.SIGTERM, before)
    if not password:
        raise Exit(1, "Error: Password Required")
    return password


def _terminated(number: int, _: object) -> None:
    """End in order: the terminal must not stay without an echo."""
    raise Exit(128 + number)


def _note_of_tokens(cli: Invocation) -> None:
    from sampan.cli.display.notes import note, styled

    note(cli.err, TOKEN_NOTE.format(styled(TOKEN_PAGE, 4)))
    cli.err.flush()


def _hints(cli: Invocation) -> bool:
    """Whether the user wants hints: DOCKER_CLI_HINTS, else the setting of that plugin."""
    wanted = os.environ.get("DOCKER_CLI_HINTS")
    if wanted is not None:
        return wanted in TRUE
    plugins = cli.settings.get("plugins")
    hooks = plugins.get("-x-cli-hints") if isinstance(plugins, dict) else None
    return not isinstance(hooks, dict) or hooks.get("enabled", "true") in TRUE


def read_line(cli: Invocation, prompt: str) -> str:
    """Print a prompt and return the line that is typed, without blanks around it."""
    cli.out.write(prompt)
    cli.out.flush()
    line = b""
    try:
        while not line.endswith(b"\n") and (character := os.read(0, 1)):
            line += character
    except (KeyboardInterrupt, Exit):
        cli.out.line()
        cli.out.flush()
        raise
    return line.decode("utf-8", "surrogateescape").strip()
