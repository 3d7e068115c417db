"""Build an image from a Dockerfile."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.containers import checks
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    build_context: list[str] = flag(
        "",
        "Further context, NAME=FOLDER, NAME=docker-image://IMAGE, NAME=oci-layout://FOLDER[:TAG] or"
        " NAME=URL",
        kind="list",
    )
    cache_from: list[str] = flag("", "Images whose steps may be used", kind="slice")
    call: str = flag("", "What is done: build, check, outline or targets", default="build")
    cgroup_parent: str = flag("", "Parent of the cgroups of steps", default="")
    check: bool = flag("", "Check the Dockerfile and build nothing: --call=check")
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
    metadata_file: str = flag("", "File that receives what is known of the image", default="")
    network: str = flag("", "Network of RUN", default="default")
    no_cache: bool = flag("", "Run every step again")
    no_cache_filter: list[str] = flag("", "Stage whose steps are run again", kind="list")
    platform: str = flag(
        "",
        "Platform of the image, os[/arch[/variant]]",
        default=os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )
    progress: str = flag(
        "", "How progress is shown: auto, plain, tty, quiet or rawjson", default=""
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
    from sampan.cli.building.display import chosen
    from sampan.cli.building.further import Further
    from sampan.cli.building.request import query_of

    if options.check or options.call != "build":
        return _ask(cli, options, operands[0])
    kind = chosen(cli, options.progress)
    further = Further(options.build_context)
    with open_context(operands[0], options.file) as context, ExitStack() as stack:
        query = query_of(options, context, further.addresses)
        if options.secret or options.ssh or further.folders or further.layouts:
            from sampan.cli.building.lending import lending

            lent = lending(cli, options.secret, options.ssh, further)
            query["session"] = stack.enter_context(lent)
        body = context.compressed() if options.compress else context.pieces()
        image = _build(cli, options, kind, query, body)
    if options.iidfile:
        _write(options.iidfile, _id(image))
    if options.metadata_file:
        _write(options.metadata_file, _metadata(image))
    return 0


def _ask(cli: Invocation, options: Options, operand: str) -> int:
    """Print what the daemon answers to a question about the Dockerfile."""
    from sampan.cli.building.context import open_context
    from sampan.cli.building.further import Further
    from sampan.cli.building.questions import BUILD, Question
    from sampan.cli.building.request import query_of

    question = Question(options.call, check=options.check)
    if question.name == BUILD:
        options.call = BUILD
        return run(cli, options, [operand])
    contexts = Further(options.build_context).addresses
    with open_context(operand, options.file) as context:
        query = query_of(options, context, contexts)
        answer = cli.client.images.ask_about(question.name, query, context.recipe())
    return question.show(cli.out, answer)


def _build(
    cli: Invocation, options: Options, kind: str, query: dict[str, object], body: Iterator[bytes]
) -> dict[str, Any]:
    """Build; return what the daemon says of the image."""
    from sampan.cli.building import display
    from sampan.cli.building.request import logins
    from sampan.cli.display.progress import show

    images = cli.client.images
    if kind == "classic":
        auxiliary: list[Any] = []
        show(_checked(images.build(query, body, logins(cli))), cli.out, auxiliary)
        ids = [one for one in auxiliary if isinstance(one, dict) and one.get("ID")]
        return {**(ids[-1] if ids else {}), "Names": options.tag}  # it has no other

    def start(take: Callable[[dict[str, Any]], None]) -> Iterator[dict[str, Any]]:
        counted = display.counted(body, take) if not query["remote"] else body
        return _checked(images.build({**query, "trace": True}, counted, logins(cli)))

    kind = "quiet" if options.quiet else kind
    image = display.shown(cli, kind, start)
    if kind == "quiet":
        cli.out.line(_id(image))
    return image


def _checked(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield messages; a step that failed ends the command with the step's own status."""
    for message in messages:
        detail = message.get("errorDetail") if isinstance(message, dict) else None
        if isinstance(detail, dict):
            code = detail.get("code")
            if isinstance(code, int) and 0 < code < 256:
                raise Exit(code, str(detail.get("message", "")))
        yield message


def _id(image: dict[str, Any]) -> str:
    if not image.get("ID"):
        raise Exit(1, "the daemon did not say which image it has built")
    return str(image["ID"])


def _metadata(image: dict[str, Any]) -> str:
    """Return what `--metadata-file` gets, by BuildKit's names."""
    from sampan.client import documents

    digest, names = _id(image), image.get("Names") or []
    document = {"containerimage.config.digest": digest, "containerimage.digest": digest}
    if names:
        document["image.name"] = ",".join(map(str, names))
    return documents.encode(document).decode() + "\n"


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
