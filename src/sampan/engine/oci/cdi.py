"""Devices by name (`--device vendor.com/class=name`, `--gpus`), as files of drivers define them.

Source: moby daemon/cdi.go, daemon/devices.go, nvidia_linux.go; CDI's SPEC.md for what is changed.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.engine.oci.devices import node_at, rule
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.spec.booleans import TRUE
from sampan.spec.build import FoundDevice
from sampan.spec.cdi import (
    SPEC_DIRS,
    CDIHook,
    CDIMount,
    CDISpec,
    ContainerEdits,
    DeviceNode,
    parse_name,
    parse_spec,
)
from sampan.spec.docker.config import DeviceRequest
from sampan.spec.runtime import Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, Mount, Spec

FAILED: Final = "CDI device injection failed: "
# What `--gpus` can ask of a driver. Source: moby daemon/nvidia_linux.go, amd_linux.go.
GPU_KINDS: Final = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
GPU_CAPABILITIES: Final = {
    "nvidia": frozenset(
        {"gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"}
    ),
    "amd": frozenset({"gpu", "amd"}),
}
_CLASS: Final = "org.mobyproject.buildkit.device.class"
_AUTO_ALLOW: Final = "org.mobyproject.buildkit.device.autoallow"
_HOOKS: Final = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
log = logging.getLogger(__name__)


@dataclass
class _Found:
    """What the files of all folders say."""

    devices: dict[str, tuple[CDISpec, ContainerEdits]] = field(default_factory=dict)
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)  # of devices
    conflicts: set[str] = field(default_factory=set)

    def add(self, specs: Sequence[CDISpec]) -> None:
        """Add the files of one folder: they replace what folders before said."""
        here: dict[str, tuple[CDISpec, ContainerEdits]] = {}
        twice: set[str] = set()
        for spec in specs:
            for device in spec.devices:
                name = f"{spec.kind}={device.name}"
                if name in here:
                    twice.add(name)
                here[name] = (spec, device.container_edits)
                self.annotations[name] = device.annotations
        self.conflicts = (self.conflicts - here.keys()) | twice
        self.devices |= here


@dataclass(frozen=True, slots=True)
class DeviceNames:
    """The devices that files name; read each time, so that a new driver needs no restart."""

    folders: Sequence[str] = SPEC_DIRS

    def edits(self, requests: Sequence[DeviceRequest]) -> list[ContainerEdits]:
        """Return what the devices that are asked for change, in their order.

        Raises InvalidArgument in Docker's words for devices that nothing names.
        """
        if not requests:
            return []
        found = self._read()
        names = [name for request in requests for name in _names(request, found)]
        for name in names:
            parse_name(name)
        lost = [name for name in names if name not in found.devices or name in found.conflicts]
        if lost:
            raise InvalidArgument(f"{FAILED}unresolvable CDI devices {', '.join(lost)}")
        edits: list[ContainerEdits] = []
        general: list[CDISpec] = []
        for name in dict.fromkeys(names):
            spec, own = found.devices[name]
            if all(spec is not other for other in general):
                general.append(spec)
                edits.append(spec.container_edits)
            edits.append(own)
        for each in edits:
            _check(each)
        return edits

    def all(self) -> list[str]:
        """Return every name that can be asked for."""
        found = self._read()
        return sorted(found.devices.keys() - found.conflicts)

    def find(self, name: str) -> list[FoundDevice]:
        """Return what a step of a build means by a name: a device, a kind, `kind=*`, a class.

        Source: buildkit solver/llbsolver/cdidevices/manager.go, parseDevice.
        """
        found = self._read()
        there = {
            one: {**spec.annotations, **found.annotations[one]}
            for one, (spec, _) in sorted(found.devices.items())
            if one not in found.conflicts
        }
        kind, _, device = name.partition("=")
        names = [one for one in there if one.startswith(f"{kind}=")] if "/" in kind else []
        if not device:
            names = names[:1]
        elif device != "*":
            names = [one for one in names if one == name]
        names = names or [one for one, notes in there.items() if notes.get(_CLASS) == name]
        return [
            FoundDevice(name=one, auto_allow=there[one].get(_AUTO_ALLOW) in TRUE) for one in names
        ]

    def _read(self) -> _Found:
        found = _Found()
        for folder in self.folders:
            specs = []
            for path in _files(folder):
                try:
                    specs.append(parse_spec(_load(path)))
                except (OSError, ValueError, SampanError) as error:
                    log.warning("%s is left out: %s", path, error)
            found.add(specs)
        return found


def _files(folder: str) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s is left out: %s", folder, error)
        return []
    return [Path(folder, name) for name in names if name.endswith((".json", ".yaml", ".yml"))]


def _load(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        document: object = json.loads(text)
        return document
    import yaml  # only where a driver's tool has written YAML

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"invalid YAML: {error}") from None


def _names(request: DeviceRequest, found: _Found) -> list[str]:
    """Return the names that a request stands for; raises InvalidArgument."""
    if request.driver == "cdi":
        if request.capabilities or request.count or request.options:
            raise InvalidArgument(
                f"{FAILED}a CDI device is asked for by its name alone, without capabilities, "
                "count and options"
            )
        return list(request.device_ids or ())
    for driver, kind in GPU_KINDS.items():
        if request.driver not in ("", driver):
            continue
        there = [name for name in found.devices if name.startswith(f"{kind}=")]
        wanted = GPU_CAPABILITIES[driver]
        if there and any(set(group) <= wanted for group in request.capabilities or ()):
            return _gpus(request, kind)
    lists = " ".join("[" + " ".join(group) + "]" for group in request.capabilities or ())
    raise InvalidArgument(
        f'could not select device driver "{request.driver}" with capabilities: [{lists}]'
    )


def _gpus(request: DeviceRequest, kind: str) -> list[str]:
    ids = list(request.device_ids or ())
    if request.count and ids:
        raise InvalidArgument("cannot set both Count and DeviceIDs on device request")
    if ids:
        return [each if "=" in each else f"{kind}={each}" for each in ids]
    if request.count < 0:
        return [f"{kind}=all"]
    return [f"{kind}={number}" for number in range(request.count)]


def _check(edits: ContainerEdits) -> None:
    for what, value in (
        ("intelRdt", edits.intel_rdt),
        ("netDevices", edits.net_devices),
        ("additionalGids", edits.additional_gids),
    ):
        if value:
            raise Unsupported(f"{FAILED}{what} is not supported")
    for hook in edits.hooks:
        if hook.hook_name not in _HOOKS:
            raise InvalidArgument(f'{FAILED}invalid hook name "{hook.hook_name}"')
    for node in edits.device_nodes:
        _node(node)


# --- into the specification ----------------------------------------------------------------------


def inject(spec: Spec, edits: Sequence[ContainerEdits]) -> None:
    """Change a specification as the devices want it."""
    for each in edits:
        _set_environment(spec, each.env)
        for wanted in each.device_nodes:
            _add_device(spec, *_node(wanted))
        for mount in each.mounts:
            spec.mounts = [one for one in spec.mounts if one.destination != mount.container_path]
            spec.mounts.append(_mount(mount))
        for hook in each.hooks:
            spec.hooks = spec.hooks or Hooks()
            getattr(spec.hooks, _HOOKS[hook.hook_name]).append(_hook(hook))


def _set_environment(spec: Spec, items: Sequence[str]) -> None:
    assert spec.process is not None
    for item in items:
        key = item.partition("=")[0] + "="
        spec.process.env = [one for one in spec.process.env if not one.startswith(key)]
        spec.process.env.append(item)


def _node(wanted: DeviceNode) -> tuple[LinuxDevice, LinuxDeviceCgroup]:
    source = wanted.host_path or wanted.path
    try:
        node = node_at(os.path.realpath(source), wanted.path)
    except (OSError, ValueError) as error:
        if not (wanted.type and wanted.major):
            reason = os.strerror(getattr(error, "errno", 0) or 22).lower()
            raise InvalidArgument(f"{FAILED}failed to stat {source}: {reason}") from None
        node = None
    if node is None:
        if not (wanted.type in ("b", "c", "u") and wanted.major):
            raise InvalidArgument(f"{FAILED}{source} is not a device node")
        node = LinuxDevice(path=wanted.path, type=wanted.type, file_mode=0o666, uid=0, gid=0)
    if wanted.major:
        node.type, node.major, node.minor = wanted.type or node.type, wanted.major, wanted.minor
    if wanted.file_mode is not None:
        node.file_mode = stat.S_IMODE(wanted.file_mode)
    node.uid = node.uid if wanted.uid is None else wanted.uid
    node.gid = node.gid if wanted.gid is None else wanted.gid
    return node, rule(node, wanted.permissions or "rwm")


def _add_device(spec: Spec, node: LinuxDevice, allowed: LinuxDeviceCgroup) -> None:
    assert spec.linux is not None
    assert spec.linux.resources is not None
    spec.linux.devices = [one for one in spec.linux.devices if one.path != node.path]
    spec.linux.devices.append(node)
    spec.linux.resources.devices.append(allowed)


def _mount(wanted: CDIMount) -> Mount:
    kind = wanted.type or "bind"
    options = list(wanted.options)
    if kind == "bind" and not {"bind", "rbind"} & set(options):
        options.append("rbind")
    return Mount(
        destination=wanted.container_path, type=kind, source=wanted.host_path, options=options
    )


def _hook(wanted: CDIHook) -> Hook:
    return Hook(path=wanted.path, args=wanted.args, env=wanted.env, timeout=wanted.timeout)
