"""RUN: what is executed, and what its result depends on.

Source: docker documentation, Dockerfile reference, "RUN"; buildkit dockerfile2llb (here-documents).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.build.caching.cache import key_of
from sampan.build.instructions import model
from sampan.build.state import State
from sampan.spec.build import BuildOptions, RunStep

_HOSTNAME: Final = "buildkitsandbox"  # of all steps, so that their results do not depend on it
SCAN_CONTEXT: Final = "BUILDKIT_SBOM_SCAN_CONTEXT"  # arguments that no command sees
SCAN_STAGE: Final = "BUILDKIT_SBOM_SCAN_STAGE"
_HOSTNAME_OF: Final = "BUILDKIT_SANDBOX_HOSTNAME"  # the argument that gives another one


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN executes."""

    words: list[str]
    text: str  # for messages
    arguments: Mapping[str, str]  # that the command may see, besides the image's variables
    proxies: Mapping[str, str]


def command_of(state: State, it: model.Run, proxies: Mapping[str, str]) -> Command:
    """Return the command of a RUN."""
    hidden = {*state.env, SCAN_CONTEXT, SCAN_STAGE}
    arguments = {name: value for name, value in state.arguments.items() if name not in hidden}
    proxies = {name: value for name, value in proxies.items() if name not in state.env}
    words = list(it.command)
    if executable(it):
        words = [script_path(it)]
    elif it.shell_form:
        words = [*state.shell, script(it)]
    return Command(words, " ".join(words), arguments, proxies)


def script_path(it: model.Run) -> str:
    """Return where a here-document lies that is executed."""
    return f"/dev/pipes/{it.heredocs[0].name}"


def is_document(it: model.Run) -> bool:
    """Tell whether a RUN is nothing but one here-document."""
    if not it.shell_form or len(it.heredocs) != 1:
        return False
    [line] = it.command
    return len(line.split()) == 1 and line.strip().lstrip("0123456789").startswith("<<")


def executable(it: model.Run) -> str:
    """Return the here-document of a RUN that names its own interpreter, "" for all else."""
    content = it.heredocs[0].content if is_document(it) else ""
    return content if content.startswith("#!") else ""


def script(it: model.Run) -> str:
    """Return what the shell gets: the line, with its documents as the shell reads them."""
    if is_document(it):
        return it.heredocs[0].content
    return it.command[0] + "".join(f"\n{one.content}{one.name}" for one in it.heredocs)


def step_of(state: State, it: model.Run, command: Command, options: BuildOptions) -> RunStep:
    """Return what the engine is asked to run, but its devices."""
    env = {**command.proxies, **command.arguments, **state.env}
    config = state.config
    return RunStep(
        chain=state.chain,
        architecture=config.architecture,
        os=config.os,
        variant=config.variant,
        command=command.words,
        env=[f"{name}={value}" for name, value in env.items()],
        user=state.run.user,
        working_dir=state.run.working_dir,
        network=options.network if it.network == "default" else it.network,
        hostname=options.arguments.get(_HOSTNAME_OF) or options.hostname or _HOSTNAME,
        extra_hosts=options.extra_hosts,
        security_opt=options.security_opt,
        privileged=it.security == "insecure",
        limits=options.limits,
    )


def key_of_run(step: RunStep, command: Command, mounts: Sequence[str]) -> str:
    """Return the key of a step: all that it may see, but proxies; `mounts` are keys of those."""
    hidden = {f"{name}={value}" for name, value in command.proxies.items()}
    return key_of(
        "run",
        step.chain,
        json.dumps(step.command),
        json.dumps(sorted(entry for entry in step.env if entry not in hidden)),
        step.user,
        step.working_dir,
        step.network,
        *([step.hostname] if step.hostname != _HOSTNAME else []),
        json.dumps(sorted(step.extra_hosts)),
        json.dumps(sorted(step.security_opt)),
        *(["insecure"] if step.privileged else []),
        *([json.dumps(step.devices)] if step.devices else []),
        *mounts,
    )
