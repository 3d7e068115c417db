"""The daemon's options about registries: checked as dockerd checks them, and made of use.

Read by the supervisor, too, so it imports little.

Source: moby daemon/config/config.go, daemon/pkg/registry/config.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.spec.addresses import is_address

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[a-fA-F0-9:]+\])(?::(?P<port>[0-9]+))?"
)
_SCHEMES = ("https://", "http://")


class RegistryOptions(NamedTuple):
    """What the options say, in one form."""

    hub_mirrors: tuple[str, ...]
    mirrors: dict[str, tuple[str, ...]]  # by host[:port]
    insecure: tuple[str, ...]


def registry_options(config: Mapping[str, Any] | Config) -> RegistryOptions:
    """Return the mirrors and the insecure registries of all options together."""
    table: dict[str, Any] = config["registries"]
    mirrors = {
        registry_name(host): tuple(mirror(each) for each in entry.get("mirrors", ()))
        for host, entry in table.items()
    }
    insecure = [insecure_registry(each) for each in config["insecure-registry"]]
    insecure += [registry_name(host) for host, entry in table.items() if entry.get("insecure")]
    hub = [mirror(each) for each in config["registry-mirror"]]
    hub += mirrors.pop("docker.io", ())
    return RegistryOptions(tuple(dict.fromkeys(hub)), mirrors, tuple(dict.fromkeys(insecure)))


def check(config: Config) -> None:
    """Raise UsageError, in dockerd's words, for an option about registries that cannot work."""
    registry_options(config)
    for flag in ("max-concurrent-downloads", "max-concurrent-uploads"):
        if config[flag] < 0:
            raise UsageError(f"invalid {flag.replace('-', ' ')}: {config[flag]}")
    if config["max-download-attempts"] < 1:
        raise UsageError(f"invalid max download attempts: {config['max-download-attempts']}")
    for flag in ("http-proxy", "https-proxy"):
        _check_proxy(flag, config[flag])


def mirror(address: str) -> str:
    """Return the address of a mirror with one slash at its end; raises UsageError."""
    scheme, separator, _ = address.partition("://")
    if not separator or not scheme:
        raise UsageError(
            f'invalid mirror: no scheme specified for "{address}":'
            " must use either 'https://' or 'http://'"
        )
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises for what is no number
    except ValueError as error:
        raise UsageError(f'invalid mirror: "{address}" is not a valid URI: {error}') from error
    if parts.scheme not in ("http", "https"):
        raise UsageError(
            f'invalid mirror: unsupported scheme "{parts.scheme}" in "{address}":'
            " must use either 'https://' or 'http://'"
        )
    if not parts.hostname or re.search(r"[\s\x00-\x1f]", address):
        raise UsageError(f'invalid mirror: "{address}" is not a valid URI')
    if parts.query or parts.fragment:
        raise UsageError(f'invalid mirror: query or fragment at end of the URI "{address}"')
    if "@" in parts.netloc:
        hidden = f"{parts.scheme}://{parts.username}:xxxxx@{parts.netloc.rpartition('@')[2]}"
        raise UsageError(
            f'invalid mirror: username/password not allowed in URI "{hidden}{parts.path}"'
        )
    return address.removesuffix("/") + "/"


def insecure_registry(name: str) -> str:
    """Return a registry (name, name:port or network) without a scheme; raises UsageError."""
    if name.startswith("-") or name.endswith("-"):
        raise UsageError(f"invalid index name ({name}). Cannot begin or end with a hyphen")
    for scheme in _SCHEMES:
        if name.lower().startswith(scheme):
            name = name[len(scheme) :].rstrip("/")
    if "://" in name:
        raise UsageError(f"insecure registry {name} should not contain '://'")
    return name if "/" in name and _is_network(name) else _host_port(name)


def _host_port(name: str) -> str:
    if name == "index.docker.io":
        return "docker.io"
    match = _HOST.fullmatch(name)
    if match is None and not is_address(name):
        raise UsageError(f'insecure registry {name} is not valid: invalid host "{name}"')
    if match is not None and match["port"] and int(match["port"]) > 65535:
        raise UsageError(f'insecure registry {name} is not valid: invalid port "{match["port"]}"')
    return name


def registry_name(name: str) -> str:
    """Return a key of `registries`: host[:port]; raises UsageError."""
    if name == "index.docker.io":
        return "docker.io"
    if not _HOST.fullmatch(name):
        raise UsageError(f"registries: {name} is not host or host:port")
    return name


def checked_table(table: dict[str, Any]) -> dict[str, Any]:
    """Return the value of `registries` if it has the right types; raises UsageError."""
    for host, entry in table.items():
        if not isinstance(entry, dict):
            raise UsageError(f"invalid JSON: registries: {host} must be an object")
        for key, value in entry.items():
            _check_entry(f"registries: {host}: {key}", key, value)
    return table


def _check_entry(where: str, key: str, value: Any) -> None:
    if key == "mirrors":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"invalid JSON: {where} must be a list of strings")
    elif key == "insecure":
        if not isinstance(value, bool):
            raise UsageError(f"invalid JSON: {where} must be true or false")
    else:
        raise UsageError(f"{where}: there is no such setting of a registry")


def masked(proxy: str) -> str:
    """Return the address of a proxy without its password, for everybody to see.

    Source: moby daemon/config/config.go, MaskCredentials.
    """
    scheme, separator, rest = proxy.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or "@" not in authority:
        return proxy
    return f"{scheme}://xxxxx:xxxxx@{authority.rpartition('@')[2]}{slash}{path}"


def _check_proxy(flag: str, address: str) -> None:
    if not address:
        return
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--{flag}: {masked(address)} is not the address of a proxy")


def _is_network(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def shown(values: Sequence[str]) -> str:
    """Return a list as dockerd writes it into the event of a reload: JSON without spaces."""
    import json

    return json.dumps(list(values), separators=(",", ":"))
