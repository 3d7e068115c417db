"""What `pull` and `push` share: flags, the name that is meant, and a login when one is wanted."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit
from sampan.errors import Unauthorized, Unsupported
from sampan.spec.booleans import TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sampan.cli.invocation import Invocation
    from sampan.spec.reference import Reference

    Answer = TypeVar("Answer")


class TransferOptions:
    """Flags of both."""

    changed: set[str]
    disable_content_trust: bool = flag(
        "", "Skip the check of signatures; there is none to ask for", default=True
    )
    quiet: bool = flag("q", "Do not show how it goes on")


def reference_of(cli: Invocation, options: TransferOptions, text: str, all: bool) -> Reference:
    """Return what the operand names, with the default tag unless all tags are meant."""
    check_trust(options.disable_content_trust, options.changed)
    from sampan.spec.reference import Reference

    reference = Reference.parse(text)
    if all:
        if not reference.is_name_only:
            raise Exit(1, "tag can't be used with --all-tags/-a")
        return reference
    if reference.is_name_only:
        reference = reference.with_default_tag()
        if not options.quiet:
            cli.out.line("Using default tag:", reference.tag)
            cli.out.flush()
    return reference


def check_trust(disabled: bool, changed: set[str]) -> None:
    """Refuse to promise a check of signatures that nobody makes."""
    if "disable-content-trust" not in changed:
        wanted = os.environ.get("DOCKER_CONTENT_TRUST", "")
        disabled = wanted not in TRUE
    if not disabled:
        raise Unsupported(
            "content trust is not supported: unset DOCKER_CONTENT_TRUST and leave out "
            "--disable-content-trust=false, or pull by digest"
        )


def with_login(cli: Invocation, domain: str, verb: str, ask: Callable[[str], Answer]) -> Answer:
    """Call `ask` with the login at a registry; ask the user for one if that is refused."""
    from sampan.cli.display.terminal import size_of
    from sampan.cli.logins.registry_auth import authorization, header, key_of

    try:
        return ask(authorization(cli, domain))
    except Unauthorized:
        if size_of(0) == (0, 0):
            raise
    from sampan.cli.logins.credentials import Login
    from sampan.cli.logins.login_prompt import ask_login

    cli.out.line(f"\nLogin prior to {verb}:")
    name, password = ask_login(cli, key_of(domain), "", "", "")
    return ask(header(Login(key_of(domain), name, password)))
