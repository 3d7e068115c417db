"""What `version` and `info` say about this program."""

from __future__ import annotations

import os
import sys

from sampan.spec.versions import API_VERSION, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def client_version(cli: Invocation, server_api: str = "") -> dict[str, Any]:
    """Return the fields of docker's `.Client`."""
    pinned = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")
    machine = os.uname().machine
    return {
        "Platform": {"Name": "Sampan"},
        "Version": VERSION,
        "APIVersion": pinned or _lower(server_api, API_VERSION),
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Os": sys.platform,
        "Arch": ARCHITECTURES.get(machine, machine),
        "BuildTime": "",
        "Context": context_name(cli),
    }


def _lower(first: str, second: str) -> str:
    if not first:
        return second
    return min(first, second, key=lambda text: [int(part) for part in text.split(".")])


def context_name(cli: Invocation) -> str:
    """Return the name of the context in use; a host given wins over all contexts."""
    if cli.context:
        return cli.context
    if cli.host or os.environ.get("DOCKER_HOST"):
        return "default"
    return os.environ.get("DOCKER_CONTEXT") or cli.setting("currentContext") or "default"
