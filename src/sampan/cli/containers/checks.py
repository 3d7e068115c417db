"""Checks of single values of `run`'s flags; each takes the current value and the text given.

Source of rules and sentences: docker/cli opts/ and cli/command/container/opts.go.
"""

from __future__ import annotations

import os

from sampan.cli.arguments.values import address, csv_fields, integer, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
SYSCTLS = {
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")
} | {"kernel.shm_rmid_forced"}
ULIMITS = frozenset(
    (
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
        *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    )
)
NETWORK_KEYS = frozenset(
    ("name", "alias", "ip", "ip6", "mac-address", "link-local-ip", "driver-opt", "gw-priority")
)


def attach(current: list[str], text: str) -> list[str]:
    name = text.lower()
    if name not in STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return [*current, name]


def env(current: list[str], text: str) -> list[str]:
    """Add NAME=value; a NAME alone takes its value from this process, if it has one."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        text = f"{name}={os.environ[name]}"
    return [*current, text]


def label(current: list[str], text: str) -> list[str]:
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if " " in key or "\t" in key:
        raise ValueError(f"label '{text}' contains whitespaces")
    return [*current, text]


def sysctl(current: dict[str, str], text: str) -> dict[str, str]:
    key, equals, value = text.partition("=")
    known = key in SYSCTLS or key.startswith(("net.", "fs.mqueue."))
    if not equals or not known:
        raise ValueError(f"sysctl '{text}' is not allowed")
    return {**current, key: value}


def ip_address(current: list[str], text: str) -> list[str]:
    try:
        return [*current, address(None, text)]
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def dns_search(current: list[str], text: str) -> list[str]:
    import re

    domain = text.strip(" ")
    label = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    if domain != "." and (
        not re.search("[a-zA-Z]", domain)
        or not re.fullmatch(rf"{label}(?:\.{label})*\.?\s*", domain)
        or len(domain) >= 255
    ):
        raise ValueError(f"{domain} is not a valid domain")
    return [*current, domain]


def extra_host(current: list[str], text: str) -> list[str]:
    """Check `name:ip` or `name=ip`; an IPv6 address may be in brackets."""
    separator = "=" if "=" in text else ":"
    name, found, value = text.partition(separator)
    if not found or not name or not value:
        raise ValueError(f'bad format for add-host: "{text}"')
    if value == "host-gateway":
        return [*current, f"{name}:{value}"]
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        address(None, bare)
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{value}"') from None
    return [*current, f"{name}:{bare}"]


def link(current: list[str], text: str) -> list[str]:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return [*current, text]


def ulimit(current: dict[str, Any], text: str) -> dict[str, Any]:
    """Parse `name=soft[:hard]`; -1 is unlimited."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    numbers = value.split(":")
    if len(numbers) > 2:
        raise ValueError(
            f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
        )
    parse = integer("ParseInt", -(1 << 63), (1 << 63) - 1)
    soft = parse(None, numbers[0])
    hard = parse(None, numbers[1]) if len(numbers) == 2 else soft
    if hard != -1 and (soft == -1 or soft > hard):
        limits = f"{soft} > {hard}" if soft != -1 else f"soft: -1 (unlimited), hard: {hard}"
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {limits}")
    return {**current, name: {"Name": name, "Hard": hard, "Soft": soft}}


def _device(text: str) -> tuple[str, str]:
    path, colon, rest = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, rest


def weight_device(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    path, rest = _device(text)
    weight = int(rest) if rest.isascii() and rest.isdigit() else -1
    if weight != 0 and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return [*current, {"Path": path, "Weight": weight}]


def throttle_bytes(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    path, rest = _device(text)
    try:
        rate = size(rest)
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is "
            "<device-path>:<number>[<unit>]. Number must be a positive integer. "
            "Unit is optional and can be kb, mb, or gb"
        ) from None
    return [*current, {"Path": path, "Rate": rate}]


def throttle_operations(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    path, rest = _device(text)
    if not (rest.isascii() and rest.isdigit()):
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is "
            "<device-path>:<number>. Number must be a positive integer"
        )
    return [*current, {"Path": path, "Rate": int(rest)}]


def device_rule(current: list[str], text: str) -> list[str]:
    import re

    if not re.match(r"^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return [*current, text]


def gpus(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Parse `all`, a number, or CSV of driver, count, device, capabilities, options."""
    request: dict[str, Any] = {
        "Driver": "",
        "Count": 0,
        "DeviceIDs": None,
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    seen: set[str] = set()
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            request["Count"] = _gpu_count(key)
        elif key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _gpu_count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            pairs = (option.partition("=") for option in csv_fields(value))
            request["Options"] = {name: rest for name, _, rest in pairs}
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and request["DeviceIDs"] is None:
        request["Count"] = 1
    return [*current, request]


def _gpu_count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        ) from None


def network(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Parse a network's name, or CSV of name, alias, ip, … (NETWORK_KEYS)."""
    if "=" not in text:
        return [*current, {"name": text}]
    import re

    if not re.search(r"\w+=\w+(,\w+=\w+)*", text):
        return [*current, {"name": text}]
    found: dict[str, Any] = {"name": "", "alias": []}
    for field in csv_fields(text):
        key, equals, value = (part.strip() for part in field.lower().partition("="))
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        if key not in NETWORK_KEYS:
            raise ValueError(f"invalid field key {key}")
        if key in ("alias", "link-local-ip"):
            found.setdefault(key, []).append(value)
        elif key == "driver-opt":
            name, given, rest = (part.strip() for part in value.partition("="))
            if not given or not name:
                raise ValueError("invalid key value pair format in driver options")
            found.setdefault(key, {})[name] = rest
        elif key == "gw-priority":
            try:
                found[key] = int(value)
            except ValueError:
                raise ValueError(f"invalid gw-priority ({value}): invalid syntax") from None
        else:
            found[key] = address(None, value) if key in ("ip", "ip6") else value
    if not found["name"]:
        raise ValueError("network name/id is not specified")
    return [*current, found]


def mount(current: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    from sampan.cli.containers.mounts import parse_mount

    return [*current, parse_mount(text)]
