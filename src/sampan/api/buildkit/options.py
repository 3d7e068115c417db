"""What a client of BuildKit asks for, as the attributes of the front end `dockerfile.v0`.

Source: buildkit frontend/dockerui/config.go and attr.go, docker/buildx build/opt.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.api.buildkit.llb import address_of, result_of
from sampan.api.buildkit.subrequests import question_of
from sampan.build.attesting.wishes import attestations_of
from sampan.build.exporting.options import boolean
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.build import BuildOptions, Limits
from sampan.spec.buildkit.solver_pb2 import Definition
from sampan.spec.docker.config import Ulimit
from sampan.spec.platform import Platform

_ARGUMENT: Final = "build-arg:"
_LABEL: Final = "label:"
_CONTEXT: Final = "context:"
_OFFICIAL: Final = re.compile(
    r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@][A-Za-z0-9_.:-]+)*"
)
_NUMBERS: Final = {
    "memory": "memory",
    "memswap": "memory_swap",
    "cpushares": "cpu_shares",
    "cpuperiod": "cpu_period",
    "cpuquota": "cpu_quota",
    "shm-size": "shm_size",
}
_TEXTS: Final = {
    "cpusetcpus": "cpuset_cpus",
    "cpusetmems": "cpuset_mems",
    "cgroup-parent": "cgroup_parent",
}
_NETWORKS: Final = ("", "default", "sandbox", "none", "host")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be built of which folders of the client, or what is asked about it."""

    options: BuildOptions
    context_name: str
    dockerfile_name: str
    platforms: Sequence[str] = ("",)  # "" is that of the base image, or this machine's
    is_index: bool = False  # whatever their number
    remote: str = ""  # where the context is, if not in a folder of the client
    dockerfile_is_local: bool = False  # the Dockerfile is in a folder of the client all the same
    context_folder: str = ""  # of a context that is remote
    question: str = ""


def _platforms(wanted: Sequence[str]) -> list[str]:
    """Return platforms, normalised, each once."""
    return list(dict.fromkeys(str(Platform.parse(one)) for one in wanted))


def wish_of(attributes: Mapping[str, str], inputs: Mapping[str, Definition] | None = None) -> Wish:
    """Return what attributes ask for; `inputs` are what some of them name.

    Raises Unsupported for what is not there, InvalidArgument.
    """
    _check(attributes)
    platforms = [one for one in attributes.get("platform", "").split(",") if one]
    options = BuildOptions(
        dockerfile=attributes.get("filename") or "Dockerfile",
        target=attributes.get("target", ""),
        arguments=dict(_with_prefix(attributes, _ARGUMENT)),
        labels=_with_prefix(attributes, _LABEL),
        platform=platforms[0] if platforms else "",
        no_cache=attributes.get("no-cache") == "",
        no_cache_stages=_stages(attributes),
        contexts=_contexts(attributes, inputs or {}),
        pull=attributes.get("image-resolve-mode") == "pull",
        network=_network(attributes.get("force-network-mode", "")),
        hostname=attributes.get("hostname", ""),
        scanned=attestations_of(attributes).sbom is not None,
        buildkit=True,
        extra_hosts=_hosts(attributes.get("add-hosts", "")),
        limits=_limits(attributes),
    )
    key = attributes.get("contextkey") or "context"
    return Wish(
        options,
        key,
        attributes.get("dockerfilekey") or "dockerfile",
        _platforms(platforms) or [""],
        len(platforms) > 1 or boolean(attributes, "multi-platform", default=False),
        remote=attributes.get(key) or _remote(inputs or {}),
        dockerfile_is_local="dockerfilekey" in attributes,
        context_folder=attributes.get("contextsubdir", ""),
        question=attributes.get("requestid", ""),
    )


def is_ours(frontend: str, attributes: Mapping[str, str]) -> bool:
    """Tell whether a front end reads Dockerfiles: ours, or what `BUILDKIT_SYNTAX` names as such."""
    if frontend == "dockerfile.v0":
        return True
    return (
        frontend == "gateway.v0" and _OFFICIAL.fullmatch(attributes.get("source", "")) is not None
    )


def foreign(frontend: str, attributes: Mapping[str, str]) -> str:
    """Return why a front end is refused."""
    name = attributes.get("source") or frontend
    return f'invalid frontend "{name}": only dockerfile.v0 is there'


def _check(attributes: Mapping[str, str]) -> None:
    if question := attributes.get("requestid"):
        question_of(question)
    if _true(attributes.get("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR")):
        raise Unsupported("BUILDKIT_CONTEXT_KEEP_GIT_DIR is not supported")


def _true(text: str | None) -> bool:
    return (text or "").lower() in ("1", "t", "true")


def _contexts(attributes: Mapping[str, str], inputs: Mapping[str, Definition]) -> dict[str, str]:
    """Return the named contexts; those that are inputs by what these mean."""
    contexts = _with_prefix(attributes, _CONTEXT)
    for name, what in contexts.items():
        kind, _, rest = what.partition(":")
        if kind == "input":
            if rest not in inputs:
                raise InvalidArgument(f"invalid input {rest} for {name}")
            result = result_of(inputs[rest])
            contexts[name] = f"result:{result}" if result else address_of(inputs[rest])
    return contexts


def _remote(inputs: Mapping[str, Definition]) -> str:
    """Return where the context is, if that is an input."""
    context, dockerfile = inputs.get("context"), inputs.get("dockerfile")
    if dockerfile is not None and dockerfile != context:
        raise Unsupported("a Dockerfile of its own as an input is not supported")
    return "" if context is None else address_of(context)


def _stages(attributes: Mapping[str, str]) -> list[str]:
    """Return the stages that `--no-cache-filter` names."""
    return [name.lower() for name in attributes.get("no-cache", "").split(",") if name]


def _with_prefix(attributes: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): value
        for name, value in attributes.items()
        if name.startswith(prefix)
    }


def _network(mode: str) -> str:
    if mode not in _NETWORKS:
        raise InvalidArgument(f"invalid network mode: {mode}")
    return "" if mode in ("default", "sandbox") else mode


def _hosts(text: str) -> list[str]:
    """Return `name=address,…` as Docker's `name:address`."""
    return [one.replace("=", ":", 1) for one in text.split(",") if one]


def _limits(attributes: Mapping[str, str]) -> Limits:
    limits = Limits(ulimits=_ulimits(attributes.get("ulimit", "")))
    for name, field in _NUMBERS.items():
        if text := attributes.get(name):
            setattr(limits, field, _number(name, text))
    for name, field in _TEXTS.items():
        setattr(limits, field, attributes.get(name, ""))
    return limits


def _ulimits(text: str) -> list[Ulimit]:
    found = []
    for one in text.split(",") if text else ():
        name, equals, values = one.partition("=")
        soft, _, hard = values.partition(":")
        if not (name and equals):
            raise InvalidArgument(f"invalid ulimit: {one}")
        found.append(
            Ulimit(name=name, soft=_number("ulimit", soft), hard=_number("ulimit", hard or soft))
        )
    return found


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {name}: {text}") from error
