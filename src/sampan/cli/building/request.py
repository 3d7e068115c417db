"""The options of `build` as the API's query, and the logins that go with it."""

from __future__ import annotations

import os

from sampan.cli.logins.registry_auth import encoded
from sampan.client import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.context import Context
    from sampan.cli.invocation import Invocation


def query_of(options: Any, context: Context, contexts: dict[str, str]) -> dict[str, object]:
    """Return the parameters of POST /build; `contexts` are the further ones, by name."""
    limits = [options.ulimit[name] for name in sorted(options.ulimit)]
    return {
        "t": options.tag,
        "dockerfile": context.dockerfile,
        "remote": context.remote or None,
        "q": options.quiet,
        "nocache": options.no_cache,
        "nocachefilter": options.no_cache_filter,
        "contexts": _json(contexts),
        "pull": options.pull,
        "rm": options.rm,
        "forcerm": options.force_rm,
        "squash": options.squash,
        "target": options.target or None,
        "platform": options.platform.lower() or None,
        "networkmode": options.network,
        "extrahosts": options.add_host,
        "allow": options.allow,
        "securityopt": options.security_opt,
        "memory": options.memory or None,
        "memswap": options.memory_swap or None,
        "cpushares": options.cpu_shares or None,
        "cpuperiod": options.cpu_period or None,
        "cpuquota": options.cpu_quota or None,
        "cpusetcpus": options.cpuset_cpus or None,
        "cpusetmems": options.cpuset_mems or None,
        "cgroupparent": options.cgroup_parent or None,
        "shmsize": options.shm_size or None,
        "ulimits": _json(limits),
        "buildargs": _json(dict(map(_argument, options.build_arg))),
        "labels": _json(dict(label.partition("=")[::2] for label in options.label)),
        "cachefrom": _json(options.cache_from),
    }


def _json(value: Any) -> str | None:
    return documents.encode(value).decode() if value else None


def _argument(text: str) -> tuple[str, str | None]:
    """Return name and value; without a value it is that of this process' environment."""
    name, equals, value = text.partition("=")
    return name, value if equals else os.environ.get(name)


def logins(cli: Invocation) -> str:
    """Return the logins at all registries that the settings name, for X-Registry-Config."""
    servers = {*(cli.settings.get("auths") or {}), *(cli.settings.get("credHelpers") or {})}
    if not servers:
        return ""
    from sampan.cli.logins.credentials import find
    from sampan.errors import SampanError

    found = {}
    for server in sorted(servers):
        try:
            document = find(cli, server).document()
        except SampanError:
            continue  # a helper that fails is no login
        if document:
            found[server] = document
    return encoded(found) if found else ""
