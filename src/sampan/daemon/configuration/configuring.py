"""The daemon's configuration: flags on top of daemon.json, checked as dockerd checks its own.

Read by the supervisor before anything else is imported, so it imports little.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

from sampan.daemon.configuration import network_options, registry_options
from sampan.daemon.configuration.build_options import gc_policies
from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError, parse_bytes, parse_flags
from sampan.daemon.configuration.options import (
    BY_FLAG,
    BY_KEY,
    FIXED,
    NOT_IN_FILE,
    OPTIONS,
    REFUSED,
    Option,
)
from sampan.errors import Unsupported
from sampan.storage.driver_names import named

LOG_LEVELS = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
LOG_DRIVERS = ("json-file", "local", "none")
_OBJECTS = ("proxies", "builder", "builder.entitlements")  # in daemon.json
TLS_PORT, PLAIN_PORT = 2376, 2375
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/]*):([0-9]{1,5})\Z")


def load(arguments: Sequence[str]) -> Config:
    """Return the configuration of a daemon started with `arguments`; raises UsageError."""
    flags = parse_flags(arguments)
    path = str(flags.get("config-file", BY_FLAG["config-file"].default))
    try:
        in_file = read_file(path)
        _check_conflicts(flags, in_file)
    except FileNotFoundError as error:
        if "config-file" in flags:
            raise _unconfigurable(path, f"open {path}: no such file or directory") from error
        in_file = {}
    except (OSError, UsageError) as error:
        raise _unconfigurable(path, str(error)) from error
    values: dict[str, Any] = {option.flag: option.default for option in OPTIONS}
    values.update(in_file)
    values.update(flags)
    config = Config(values, frozenset(flags), frozenset(in_file))
    check(config)
    return config


def _unconfigurable(path: str, reason: str) -> UsageError:
    return UsageError(f"unable to configure the daemon with file {path}: {reason}")


def read_file(path: str) -> dict[str, Any]:
    """Return what daemon.json sets, by flag name; raises UsageError, OSError."""
    with open(path, "rb") as file:
        content = file.read(1 << 20).removeprefix(b"\xef\xbb\xbf").strip()
    if not content:
        return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError("invalid JSON: the document is not an object")
    document = _flat(document)
    unknown = [key for key in document if not _is_known(key)]
    if unknown:
        raise UsageError(
            "the following directives don't match any configuration option: " + ", ".join(unknown)
        )
    return {BY_KEY[key].flag: _typed(BY_KEY[key], value) for key, value in document.items()}


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the members of some objects as keys of their own."""
    for name in _OBJECTS:
        members = document.get(name, {})
        if not isinstance(members, dict):
            raise UsageError(f"invalid JSON: {name} must be an object")
        rest = {key: value for key, value in document.items() if key != name}
        document = {**rest, **{f"{name}.{key}": value for key, value in members.items()}}
    return document


def _is_known(key: str) -> bool:
    for refused, reason in REFUSED.items():
        if key in (refused, f"{refused}s"):
            raise UsageError(f"{key} is not supported: {reason}")
    return key in BY_KEY and key not in NOT_IN_FILE


def _typed(option: Option, value: Any) -> Any:
    wanted: dict[str, tuple[type, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "bytes": (int, str),
        "list": (list,),
        "pools": (list,),
        "map": (dict,),
        "registries": (dict,),
        "builder": (dict,),
    }
    kinds = wanted.get(option.kind, (str,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        kind = "map" if option.kind in ("registries", "builder") else option.kind
        raise UsageError(
            f"invalid JSON: {option.file_key} must be {kind}, not {json.dumps(value)[:60]}"
        )
    if option.kind == "bytes" and isinstance(value, str):
        try:
            return parse_bytes(value)
        except ValueError as error:
            raise UsageError(f"{option.file_key}: {error}") from error
    items: Any = value
    if option.kind == "builder":
        gc_policies(items)  # what cannot be is told now
    if option.kind == "registries":
        return registry_options.checked_table(items)
    if option.kind == "list" and not all(isinstance(item, str) for item in items):
        raise UsageError(f"invalid JSON: {option.file_key} must be a list of strings")
    if option.flag == "log-opt" and not all(isinstance(item, str) for item in items.values()):
        raise UsageError(f"invalid JSON: {option.file_key} must map names to strings")
    return items


def _check_conflicts(flags: dict[str, object], in_file: dict[str, Any]) -> None:
    both = [flag for flag in flags if flag in in_file]
    if both:
        shown = ", ".join(
            f"{BY_FLAG[flag].file_key}: (from flag: {_show(flags[flag])}, "
            f"from file: {_show(in_file[flag])})"
            for flag in both
        )
        raise UsageError(
            "the following directives are specified both as a flag and in the "
            f"configuration file: {shown}"
        )


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(str(item) for item in value) + "]"
    return str(value)


def reload(config: Config, in_file: dict[str, Any]) -> list[str]:
    """Apply what may change while the daemon runs; return the names of what changed.

    Flags win, as they cannot be in conflict with a file that was read after the start. Raises
    UsageError for a value that cannot work, and then changes nothing.
    """
    changed = {}
    for option in OPTIONS:
        if option.reloadable and option.flag not in config.flags:
            value = in_file.get(option.flag, option.default)
            if config[option.flag] != value:
                changed[option.flag] = value
    check(config.changed(changed))
    for flag, value in changed.items():
        config.set(flag, value)
    return list(changed)


def check(config: Config) -> None:
    """Raise UsageError for a value that cannot work."""
    for flag, (only, reason) in FIXED.items():
        if config[flag] != only:
            raise UsageError(f"--{flag}={_show(config[flag])} is not supported: {reason}")
    if str(config["log-level"]).lower() not in LOG_LEVELS:
        raise UsageError(f"invalid logging level: {config['log-level']}")
    if config["format"] not in ("text", "json"):
        raise UsageError(f"invalid format: {config['format']}")
    if config["log-format"] not in ("text", "json"):
        raise UsageError(f"invalid log format: {config['log-format']}")
    if config["log-driver"] not in LOG_DRIVERS:
        raise UsageError(f"logger: no log driver named '{config['log-driver']}' is registered")
    if config["firewall-backend"] not in ("", "iptables", "nftables"):
        raise UsageError(f"invalid firewall-backend: {config['firewall-backend']!r}")
    try:
        if config["storage-driver"]:
            named(config["storage-driver"])
    except Unsupported as error:
        refusal = f"failed to start daemon: error initializing graphdriver: {error}"
        raise UsageError(refusal) from error
    for flag in ("data-root", "exec-root"):
        if not os.path.isabs(config[flag]):
            raise UsageError(f"--{flag} must be an absolute path: {config[flag]}")
    _check_modes(config)
    if not 0 <= config["mtu"] <= 65535:
        raise UsageError(f"invalid default MTU: {config['mtu']}")
    if config["default-shm-size"] <= 0:
        raise UsageError("default shm size must be greater than 0")
    if config["shutdown-timeout"] < -1:
        raise UsageError(f"invalid shutdown timeout: {config['shutdown-timeout']}")
    for label in config["label"]:
        if "=" not in label or label.startswith("="):
            raise UsageError(f"bad attribute format: {label}")
    network_options.check(config)
    registry_options.check(config)
    check_hosts(config)


def _check_modes(config: Config) -> None:
    if (mode := config["default-ipc-mode"]) not in ("private", "shareable"):
        raise UsageError(f"IPC mode {mode!r} is not supported: use 'shareable' or 'private'")
    if (mode := config["default-cgroupns-mode"]) not in ("", "host", "private"):
        raise UsageError(
            f"default cgroup namespace mode ({mode!r}) is invalid; use 'host' or 'private'"
        )


def check_hosts(config: Config) -> None:
    """Raise UsageError for an address that cannot or must not be listened on."""
    for host in config.hosts:
        scheme, separator, rest = host.partition("://")
        if not separator or scheme not in ("unix", "tcp", "fd"):
            raise UsageError(f"invalid bind address format: {host}")
        if scheme == "unix" and not os.path.isabs(rest or "/"):
            raise UsageError(f"invalid bind address (unix socket must be absolute): {host}")
        if scheme == "tcp":
            tcp_address(host, config.wants_tls)
            if not config.wants_tls and not config["insecure-tcp"]:
                raise UsageError(
                    f"{host} without TLS would give root on this machine to everyone who reaches "
                    "that port: use --tlsverify, or --insecure-tcp if that is what you want"
                )
    if config.wants_tls:
        for flag in ("tlscert", "tlskey", *(["tlscacert"] if config.verifies_clients else [])):
            if not config[flag]:
                raise UsageError(f"invalid TLS configuration: --{flag} is needed")


def tcp_address(host: str, tls: bool) -> tuple[str, int]:
    """Return address and port of tcp://ADDRESS:PORT; either may be missing."""
    rest = host.removeprefix("tcp://").rstrip("/")
    default = TLS_PORT if tls else PLAIN_PORT
    if ":" not in rest.rpartition("]")[2]:
        rest += f":{default}"
    match = _ADDRESS.match(rest)
    if match is None or int(match[2]) > 65535:
        raise UsageError(f"invalid bind address format: {host}")
    return match[1].strip("[]") or "127.0.0.1", int(match[2]) or default
