"""Log in to a registry."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.terminal import size_of
from sampan.cli.invocation import Exit
from sampan.cli.logins.credentials import Login, find, hostname, save
from sampan.cli.logins.registry_auth import HUB_KEY
from sampan.errors import SampanError, Unauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[SERVER]"
OPERANDS = (0, 1)
LONG = "Without a server it is Docker Hub."
HUB = "docker.io"
INPUT_BYTES = 1 << 20


class Options:
    changed: set[str]
    password: str = flag("p", "Password or personal access token", default="")
    password_stdin: bool = flag("", "Read the password or token from STDIN")
    username: str = flag("u", "User name", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    _check(options)
    password = options.password
    if password:
        cli.err.line("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        cli.err.flush()
    if options.password_stdin:
        password = _read_password()
    given = operands[0] if operands else ""
    server = HUB_KEY if given in ("", HUB) else given
    if server != HUB_KEY:
        server = hostname(server)
    known = Login(server)
    if not options.username and not password:
        known, status = _log_in_as_before(cli, server)
        if status is not None:
            return _print(cli, status)
    return _print(cli, _log_in(cli, server, options.username, password, known.name))


def _check(options: Options) -> None:
    changed = options.changed
    if "password-stdin" in changed:
        if "password" in changed:
            raise Exit(
                1, "conflicting options: cannot specify both --password and --password-stdin"
            )
        if "username" not in changed:
            raise Exit(1, "the --password-stdin option requires --username to be set")
    if "username" in changed and not options.username:
        raise Exit(1, "username is empty")
    if "password" in changed and not options.password:
        raise Exit(1, "password is empty")


def _read_password() -> str:
    import os

    text = b""
    while len(text) < INPUT_BYTES and (piece := os.read(0, INPUT_BYTES)):
        text += piece
    return text.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _print(cli: Invocation, status: str) -> int:
    if status:
        from sampan.cli.display import harmless

        cli.out.line(harmless.lines(status))
    return 0


def _log_in_as_before(cli: Invocation, server: str) -> tuple[Login, str | None]:
    """Try the login that is stored; return it, and what the daemon says if it is still good."""
    try:
        known = find(cli, server)
    except SampanError:
        return Login(server), None
    known.server, known.token = server, ""
    if not known.name or not known.password:
        return known, None
    from sampan.cli.display.notes import note

    cli.err.line(f"Authenticating with existing credentials... [Username: {known.name}]")
    note(
        cli.err,
        "To login with a different account, run 'docker logout' followed by 'docker login'".replace(
            "docker", "sampan"
        ),
    )
    cli.err.write("\n\n")
    cli.err.flush()
    try:
        return known, _authenticate(cli, known)
    except Unauthorized:
        cli.err.line("Stored credentials invalid or expired")
    except SampanError as error:
        from sampan.cli.display import harmless

        cli.err.line("Login did not succeed, error:", harmless.lines(str(error)))
    cli.err.flush()
    return known, None


def _log_in(cli: Invocation, server: str, name: str, password: str, known_name: str) -> str:
    if (not name or not password) and size_of(0) == (0, 0):
        raise Exit(1, "Error: Cannot perform an interactive login from a non TTY device")
    from sampan.cli.logins.login_prompt import ask_login

    name, password = ask_login(cli, server, name, password, known_name)
    return _authenticate(cli, Login(server, name, password))


def _authenticate(cli: Invocation, login: Login) -> str:
    """Have the daemon try a login, keep it, and return the daemon's sentence."""
    answer = cli.client.system.auth(login.document())
    token = str(answer.get("IdentityToken") or "")
    if token:
        login.token, login.password = token, ""
    try:
        save(cli, login)
    except SampanError as error:
        raise Exit(1, f"Error saving credentials: {error}") from None
    return str(answer.get("Status") or "")
