"""The value of --mount: one line of CSV with key=value fields.

Source of rules and sentences: docker/cli opts/mount.go and mount_utils.go.
"""

from __future__ import annotations

import os

from sampan.cli.arguments.values import csv_fields, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
# Which options a kind of mount may have: the prefix of the keys, and the API's name.
OPTIONS = {
    "bind": "BindOptions",
    "volume": "VolumeOptions",
    "image": "ImageOptions",
    "tmpfs": "TmpfsOptions",
    "cluster": "ClusterOptions",
}
RECURSIVE = {
    "enabled": "",
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}


def parse_mount(text: str) -> dict[str, Any]:
    """Return the API's Mount. Raises ValueError with docker's sentence."""
    text = text.strip()
    if not text:
        raise ValueError("value is empty")
    mount: dict[str, Any] = {"Type": "volume"}
    for field in csv_fields(text):
        key, value, given = _field(field)
        setter = _SETTERS.get(key)
        if setter is None:
            raise ValueError(f"unknown option '{key}' in '{field}'")
        setter(mount, key, value if given else "true")
    _check(mount)
    return mount


def _field(field: str) -> tuple[str, str, bool]:
    key, equals, value = field.partition("=")
    if key.strip() != key:
        raise ValueError(
            f"invalid option '{key.strip()}' in '{field}': option should not have whitespace"
        )
    if equals:
        if not value.strip():
            raise ValueError(f"invalid value for '{key}': value is empty")
        if value.strip() != value:
            raise ValueError(
                f"invalid value for '{key}' in '{field}': value should not have whitespace"
            )
    elif key.lower() not in SWITCHES:
        raise ValueError(f"invalid field '{field}' must be a key=value pair")
    return key.lower(), value, bool(equals)


def _switch(key: str, value: str) -> bool:
    if value in ("1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise ValueError(
        f"invalid value for '{key}': invalid boolean value (\"{value}\"): "
        'must be one of "true", "1", "false", or "0" (default "true")'
    )


def _source(mount: dict[str, Any], key: str, value: str) -> None:
    mount["Source"] = os.path.abspath(value) if value.startswith(".") else value


def _target(mount: dict[str, Any], key: str, value: str) -> None:
    mount["Target"] = value


def _read_only(mount: dict[str, Any], key: str, value: str) -> None:
    mount["ReadOnly"] = _switch(key, value)


def _lower(name: str) -> Callable[[dict[str, Any], str, str], None]:
    def set_value(mount: dict[str, Any], key: str, value: str) -> None:
        mount[name] = value.lower()

    return set_value


def _option(
    kind: str, name: str, convert: Callable[[str, str], Any]
) -> Callable[[dict[str, Any], str, str], None]:
    def set_value(mount: dict[str, Any], key: str, value: str) -> None:
        mount.setdefault(OPTIONS[kind], {})[name] = convert(key, value)

    return set_value


def _recursive(mount: dict[str, Any], key: str, value: str) -> None:
    if value not in RECURSIVE:
        raise ValueError(
            f"invalid value for {key}: {value} "
            '(must be "enabled", "disabled", "writable", or "readonly")'
        )
    if RECURSIVE[value]:
        mount.setdefault("BindOptions", {})[RECURSIVE[value]] = True


def _non_recursive(mount: dict[str, Any], key: str, value: str) -> None:
    mount.setdefault("BindOptions", {})["NonRecursive"] = _switch(key, value)


def _volume_map(*path: str) -> Callable[[dict[str, Any], str, str], None]:
    def set_value(mount: dict[str, Any], key: str, value: str) -> None:
        target = mount.setdefault("VolumeOptions", {})
        for name in path:
            target = target.setdefault(name, {})
        name, _, rest = value.partition("=")
        if name:
            target[name] = rest

    return set_value


def _driver(mount: dict[str, Any], key: str, value: str) -> None:
    mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value


def _bytes(key: str, value: str) -> int:
    try:
        return size(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _mode(key: str, value: str) -> int:
    if not value or value.strip("01234567") or int(value, 8) >= 1 << 32:
        raise ValueError(f"invalid value for {key}: {value}")
    return int(value, 8)


def _text(key: str, value: str) -> str:
    return value


_SETTERS: dict[str, Callable[[dict[str, Any], str, str], None]] = {
    "type": _lower("Type"),
    "source": _source,
    "src": _source,
    "target": _target,
    "dst": _target,
    "destination": _target,
    "readonly": _read_only,
    "ro": _read_only,
    "consistency": _lower("Consistency"),
    "bind-propagation": _option("bind", "Propagation", lambda _, value: value.lower()),
    "bind-nonrecursive": _non_recursive,
    "bind-recursive": _recursive,
    "bind-create-src": _option("bind", "CreateMountpoint", _switch),
    "volume-subpath": _option("volume", "Subpath", _text),
    "volume-nocopy": _option("volume", "NoCopy", _switch),
    "volume-label": _volume_map("Labels"),
    "volume-driver": _driver,
    "volume-opt": _volume_map("DriverConfig", "Options"),
    "image-subpath": _option("image", "Subpath", _text),
    "tmpfs-size": _option("tmpfs", "SizeBytes", _bytes),
    "tmpfs-mode": _option("tmpfs", "Mode", _mode),
}


def _check(mount: dict[str, Any]) -> None:
    if not mount["Type"]:
        raise ValueError("type is required")
    for kind, name in OPTIONS.items():
        if name in mount and mount["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    bind = mount.get("BindOptions", {})
    for name, value in (
        ("ReadOnlyNonRecursive", "writable"),
        ("ReadOnlyForceRecursive", "readonly"),
    ):
        if bind.get(name) and not mount.get("ReadOnly"):
            raise ValueError(
                f"option 'bind-recursive={value}' requires 'readonly' "
                "to be specified in conjunction"
            )
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' "
            "to be specified in conjunction"
        )
