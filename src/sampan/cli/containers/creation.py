"""Creating a container: what `run` and `create` do before anything starts."""

from __future__ import annotations

import os

from sampan.cli.containers.config import configuration, refusal
from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.containers.flags import ContainerOptions
    from sampan.cli.invocation import Invocation

PULLS = ("always", "missing", "never", "")
# Names made of these alone need no closer look before they go to the daemon.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789/._-:")


def build(cli: Invocation, options: ContainerOptions, operands: list[str]) -> dict[str, Any]:
    """Return the body of the request, or raise Exit with docker's message and status 125."""
    if options.pull not in PULLS:
        raise refusal(
            cli.path,
            f"invalid pull option: '{options.pull}': must be one of "
            '"always", "missing" or "never"',
        )
    image, *command = operands
    try:
        body = configuration(options, image, command)
    except InvalidArgument as error:
        raise refusal(cli.path, str(error)) from None
    if cli.settings.get("proxies"):
        body["Env"] = _proxies(cli, body["Env"] or []) + (body["Env"] or []) or None
    if body["Tty"]:
        from sampan.cli.display.terminal import size_of

        body["HostConfig"]["ConsoleSize"] = [*size_of(1)]
    return body


def _proxies(cli: Invocation, given: list[str]) -> list[str]:
    """Return the variables that config.json sets for containers of this daemon."""
    proxies = cli.settings.get("proxies")
    if not isinstance(proxies, dict):
        return []
    chosen = proxies.get(cli.client.endpoint.host) or proxies.get("default") or {}
    names = {line.partition("=")[0] for line in given}
    found = []
    for key, variable in (
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ):
        for name in (variable, variable.lower()):
            if chosen.get(key) and name not in names:
                found.append(f"{name}={chosen[key]}")
    return found


def create(cli: Invocation, options: ContainerOptions, body: dict[str, Any]) -> str:
    """Create the container, pulling its image if that is needed and wanted; return its id."""
    if not options.cidfile:
        return _create(cli, options, body)
    if os.path.exists(options.cidfile):
        raise Exit(
            125,
            "sampan: container ID file found, make sure the other container isn't running "
            f"or delete {options.cidfile}\n\nRun 'sampan {cli.path} --help' for more information",
        )
    try:
        descriptor = os.open(options.cidfile, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise refusal(
            cli.path,
            f"failed to create the container ID file: open {options.cidfile}: "
            f"{(error.strerror or '').lower()}",
        ) from None
    try:
        container = _create(cli, options, body)
        os.write(descriptor, container.encode())
    except BaseException:
        os.unlink(options.cidfile)
        raise
    finally:
        os.close(descriptor)
    return container


def _create(cli: Invocation, options: ContainerOptions, body: dict[str, Any]) -> str:
    image = body["Image"]
    if not _PLAIN.issuperset(image):
        _check_reference(image)
    if options.pull == "always":
        _pull(cli, options, image)
    containers = cli.client.containers
    try:
        answer = containers.create(body, options.name, options.platform)
    except NotFound:
        if options.pull not in ("missing", "") or image.startswith("sha256:"):
            raise
        if not options.quiet:
            from sampan.spec.reference import Reference

            name = Reference.parse(image).with_default_tag().familiar
            cli.err.line(f"Unable to find image '{name}' locally")
            cli.err.flush()
        _pull(cli, options, image)
        answer = containers.create(body, options.name, options.platform)
    for warning in answer.get("Warnings") or []:
        cli.err.line("WARNING:", warning)
    cli.err.flush()
    return str(answer["Id"])


def _check_reference(image: str) -> None:
    """Refuse what is no reference; only for names that are not plain, since it costs an import."""
    from sampan.spec.reference import parse_any

    parse_any(image)


def _pull(cli: Invocation, options: ContainerOptions, image: str) -> None:
    from sampan.cli.display.progress import show
    from sampan.cli.images.transfer import check_trust
    from sampan.cli.logins.registry_auth import authorization
    from sampan.spec.reference import Reference

    check_trust(options.disable_content_trust, options.changed)
    reference = Reference.parse(image).with_default_tag()
    messages = cli.client.images.pull(
        reference.name,
        str(reference.digest) if reference.digest else reference.tag,
        options.platform,
        authorization(cli, reference.domain, strict=True),
    )
    show(messages, None if options.quiet else cli.err)
