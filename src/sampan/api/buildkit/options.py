"""What a client of BuildKit asks for, as the attributes of the front end `dockerfile.v0`.

Source: buildkit frontend/dockerui/config.go and attr.go, docker/buildx build/opt.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.api.buildkit.warnings import LINT
from sampan.build.exporting.options import boolean
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.build import BuildOptions, Limits
from sampan.spec.docker.config import Ulimit
from sampan.spec.platform import Platform

_ARGUMENT: Final = "build-arg:"
_LABEL: Final = "label:"
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
    """What is to be built of which folders of the client."""

    options: BuildOptions
    context_name: str
    dockerfile_name: str
    platforms: Sequence[str] = ("",)  # "" is that of the base image, or this machine's
    is_index: bool = False  # whatever their number


def _platforms(wanted: Sequence[str]) -> list[str]:
    """Return platforms, normalised, each once."""
    return list(dict.fromkeys(str(Platform.parse(one)) for one in wanted))


def wish_of(attributes: Mapping[str, str]) -> Wish:
    """Return what attributes ask for. Raises Unsupported for what is not there, InvalidArgument."""
    _check(attributes)
    platforms = [one for one in attributes.get("platform", "").split(",") if one]
    options = BuildOptions(
        dockerfile=attributes.get("filename") or "Dockerfile",
        target=attributes.get("target", ""),
        arguments=dict(_with_prefix(attributes, _ARGUMENT)),
        labels=_with_prefix(attributes, _LABEL),
        platform=platforms[0] if platforms else "",
        no_cache="no-cache" in attributes,
        pull=attributes.get("image-resolve-mode") == "pull",
        network=_network(attributes.get("force-network-mode", "")),
        extra_hosts=_hosts(attributes.get("add-hosts", "")),
        limits=_limits(attributes),
    )
    return Wish(
        options,
        attributes.get("contextkey") or "context",
        attributes.get("dockerfilekey") or "dockerfile",
        _platforms(platforms) or [""],
        len(platforms) > 1 or boolean(attributes, "multi-platform", default=False),
    )


def _check(attributes: Mapping[str, str]) -> None:
    if attributes.get("requestid") not in (None, "", LINT):
        raise Unsupported(f"unsupported request {attributes['requestid']}")
    if attributes.get("context"):
        raise Unsupported(f"unable to build from {attributes['context']}: send a local context")
    if attributes.get("no-cache"):
        raise Unsupported("--no-cache-filter is not supported")
    for name in attributes:
        if name.startswith("context:"):
            raise Unsupported(f"the named build context {name[8:]} is not supported")


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
