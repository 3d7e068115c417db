"""Build an image from a Dockerfile."""

from __future__ import annotations

import os

from sampan.cli import container_checks as checks
from sampan.cli.flags import flag, hidden
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "PATH | URL | -"
ALIASES = "image build, build, builder build"
OPERANDS = (1, 1)


class Options:
    add_host: list[str] = flag(
        "", "Line for /etc/hosts (host:ip)", kind="list", check=checks.extra_host
    )
    allow: list[str] = flag(
        "", "Let RUN have network.host, security.insecure or device[=NAME]", kind="list"
    )
    build_arg: list[str] = flag("", "Value of an ARG; NAME alone takes over its value", kind="list")
    cache_from: list[str] = flag("", "Images whose steps may be used", kind="slice")
    cgroup_parent: str = flag("", "Parent of the cgroups of steps", default="")
    compress: bool = flag("", "Compress the context on its way")
    cpu_period: int = flag("", "Period of the CPU quota in microseconds", kind="int")
    cpu_quota: int = flag("", "CPU time per period in microseconds", kind="int")
    cpu_shares: int = flag("c", "Share of CPU (relative weight)", kind="int")
    cpuset_cpus: str = flag("", "CPUs that may be used (0-3, 0,1)", default="")
    cpuset_mems: str = flag("", "Memory nodes that may be used (0-3, 0,1)", default="")
    file: str = flag("f", "The Dockerfile (default: PATH/Dockerfile)", default="")
    force_rm: bool = flag("", "Remove the containers of steps that fail, too")
    iidfile: str = flag("", "File that receives the image's id", default="")
    isolation: str = flag("", "Isolation technology", default="")
    label: list[str] = flag("", "Label of the image", kind="list", check=checks.label)
    memory: int = flag("m", "Memory limit", kind="bytes")
    memory_swap: int = flag("", "Limit of memory and swap together, -1 for none", kind="swap")
    network: str = flag("", "Network of RUN", default="default")
    no_cache: bool = flag("", "Run every step again")
    platform: str = flag(
        "",
        "Platform of the image, os[/arch[/variant]]",
        default=os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )
    pull: bool = flag("", "Look for newer base images in any case")
    quiet: bool = flag("q", "Print the image's id alone")
    rm: bool = flag("", "Remove the containers of steps", default=True)
    secret: list[str] = flag(
        "", "Secret for RUN --mount=type=secret (id=ID[,src=FILE][,env=NAME])", kind="list"
    )
    security_opt: list[str] = flag("", "Security option", kind="slice")
    shm_size: int = flag("", "Size of /dev/shm", kind="bytes")
    ssh: list[str] = flag(
        "", "SSH agent or keys for RUN --mount=type=ssh (default or ID[=PATH,...])", kind="list"
    )
    squash: bool = flag("", "Make one layer of all new ones")
    tag: list[str] = flag("t", "Name of the image, name[:tag]", kind="list")
    target: str = flag("", "Stage to build", default="")
    ulimit: dict[str, Any] = flag(
        "", "Resource limit, name=soft[:hard]", kind="ulimit", default={}, check=checks.ulimit
    )
    disable_content_trust: bool = hidden("", kind="bool", default=True)


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    from contextlib import ExitStack

    from sampan.cli.building.context import open_context
    from sampan.cli.building.request import logins, query_of
    from sampan.cli.progress import show

    with open_context(operands[0], options.file) as context, ExitStack() as stack:
        query = query_of(options, context)
        if options.secret or options.ssh:
            from sampan.cli.building.lending import lending

            query["session"] = stack.enter_context(lending(cli, options.secret, options.ssh))
        body = context.compressed() if options.compress else context.pieces()
        messages = cli.client.images.build(query, body, logins(cli))
        auxiliary: list[Any] = []
        show(_checked(messages), cli.out, auxiliary)
    if options.iidfile:
        _write_id(options.iidfile, cli, options, auxiliary)
    return 0


def _checked(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield messages; a step that failed ends the command with the step's own status."""
    for message in messages:
        detail = message.get("errorDetail") if isinstance(message, dict) else None
        if isinstance(detail, dict):
            code = detail.get("code")
            if isinstance(code, int) and 0 < code < 256:
                raise Exit(code, str(detail.get("message", "")))
        yield message


def _write_id(path: str, cli: Invocation, options: Options, auxiliary: list[Any]) -> None:
    ids = [one.get("ID") for one in auxiliary if isinstance(one, dict) and one.get("ID")]
    if not ids:
        raise Exit(1, "the daemon did not say which image it has built")
    with open(path, "w", encoding="ascii") as file:
        file.write(str(ids[-1]))
