"""Versions of the API: which are served, and what the answers of old ones look like.

Handlers speak only the newest version. What older clients expect otherwise is in one table: for
each kind of document, the version that changed it and the function that takes the change back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.versions import API_VERSION, MIN_API_VERSION

Version = tuple[int, ...]
Document = dict[str, Any]


def parse_version(text: str) -> Version:
    """Return the numbers of "1.43"; what cannot be read counts as 0, as in Docker."""
    return tuple(int(part) if part else 0 for part in text.split(".")[:4])


NEWEST, OLDEST = parse_version(API_VERSION), parse_version(MIN_API_VERSION)


def show_version(version: Version) -> str:
    """Return the usual spelling, 1.43."""
    return ".".join(str(part) for part in version)


def negotiate(text: str) -> Version:
    """Return the version that a path asks for; raises InvalidArgument in Docker's words."""
    if len(text) > 16:
        raise InvalidArgument("malformed API version")
    version = parse_version(text)
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is "
            f"{show_version(OLDEST)}, please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is "
            f"{show_version(NEWEST)}"
        )
    return version


# --- what older versions had ------------------------------------------------------------------


def _virtual_size(image: Document) -> None:
    image["VirtualSize"] = image.get("Size", 0)


def _without(*names: str) -> Callable[[Document], None]:
    def remove(document: Document) -> None:
        for name in names:
            document.pop(name, None)

    return remove


def _untagged_names(image: Document) -> None:
    if not image.get("RepoTags") and not image.get("RepoDigests"):
        image["RepoTags"], image["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]


def _uncounted(image: Document) -> None:
    image["Containers"] = -1


def _created(image: Document) -> None:
    image.setdefault("Created", "0001-01-01T00:00:00Z")


def _container_config(image: Document) -> None:
    image.setdefault("Container", "")
    image.setdefault("ContainerConfig", None)


LEGACY_IMAGE_CONFIG: Document = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def _image_config(image: Document) -> None:
    image["Config"] = LEGACY_IMAGE_CONFIG | (image.get("Config") or {})


def _aliases(container: Document) -> None:
    """Before 1.45 the short id and the host name were among the aliases of user networks."""
    settings = container.get("NetworkSettings") or {}
    extra = [container.get("Id", "")[:12], (container.get("Config") or {}).get("Hostname", "")]
    for name, endpoint in (settings.get("Networks") or {}).items():
        if endpoint and name not in ("default", "bridge", "host", "none"):
            aliases = [*(endpoint.get("Aliases") or []), *extra]
            endpoint["Aliases"] = list(dict.fromkeys(alias for alias in aliases if alias))


def _annotations(container: Document) -> None:
    (container.get("HostConfig") or {}).pop("Annotations", None)


def _endpoint_fields(*names: str) -> Callable[[Document], None]:
    def remove(container: Document) -> None:
        settings = container.get("NetworkSettings") or {}
        for endpoint in (settings.get("Networks") or {}).values():
            for name in names if endpoint else ():
                endpoint.pop(name, None)

    return remove


def _runtime_status(info: Document) -> None:
    for runtime in (info.get("Runtimes") or {}).values():
        runtime.pop("status", None)


def _registry_config(info: Document) -> None:
    config = info.get("RegistryConfig")
    if config is not None:
        config["AllowNondistributableArtifactsCIDRs"] = None
        config["AllowNondistributableArtifactsHostnames"] = None


def _expected_commits(info: Document) -> None:
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        commit = info.get(name) or {}
        commit["Expected"] = commit.get("ID", "")


def _bridge_nf(info: Document) -> None:
    info["BridgeNfIptables"] = info["BridgeNfIp6tables"] = False


def _each_image(change: Callable[[Document], None]) -> Callable[[Document], None]:
    def each(usage: Document) -> None:
        for image in usage.get("Images") or []:
            change(image)

    return each


# kind → (the version that changed it, how to take the change back), newest first
DOWN: dict[str, list[tuple[Version, Callable[[Document], None]]]] = {
    "ImageSummary": [
        ((1, 51), _uncounted),
        ((1, 48), _without("Descriptor")),
        ((1, 44), _virtual_size),
        ((1, 43), _untagged_names),
    ],
    "ImageInspect": [
        ((1, 50), _image_config),
        ((1, 48), _without("Descriptor")),
        ((1, 45), _container_config),
        ((1, 44), _virtual_size),
        ((1, 44), _created),
    ],
    "ContainerSummary": [
        ((1, 48), _without("ImageManifestDescriptor")),
        ((1, 48), _endpoint_fields("GwPriority")),
        ((1, 46), _annotations),
        ((1, 44), _endpoint_fields("DNSNames")),
    ],
    "ContainerInspect": [
        ((1, 48), _without("ImageManifestDescriptor")),
        ((1, 48), _endpoint_fields("GwPriority")),
        ((1, 45), _aliases),
        ((1, 44), _endpoint_fields("DNSNames")),
        ((1, 43), _annotations),
    ],
    "Network": [((1, 48), _without("EnableIPv4"))],
    "SystemInfo": [
        ((1, 50), _without("DiscoveredDevices")),
        ((1, 50), _bridge_nf),
        ((1, 49), _without("FirewallBackend")),
        ((1, 49), _expected_commits),
        ((1, 47), _registry_config),
        ((1, 46), _without("Containerd")),
        ((1, 44), _runtime_status),
    ],
    "DiskUsage": [((1, 44), _each_image(_virtual_size))],
}


def shaped(kind: str, value: Any, version: Version) -> Any:
    """Return `value` (a document or a list of them) as clients of `version` expect it."""
    if version >= NEWEST:
        return value
    undo = [change for since, change in DOWN[kind] if version < since]
    if not undo:
        return value
    documents = msgspec.to_builtins(value)
    for document in documents if isinstance(documents, list) else [documents]:
        for change in undo:
            change(document)
    return documents
