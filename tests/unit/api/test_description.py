"""Our routes and structs against Docker's own description of API 1.51 (a table made from it)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sampan.api.app import router
from sampan.spec.docker import config, containers, events, images, networks, system, volumes
from sampan.spec.docker.exec import ExecProcessConfig

DESCRIPTION = json.loads((Path(__file__).parent / "api-1.51.json").read_text())
OPERATIONS = [(method, path) for method, path, _, _ in DESCRIPTION["operations"]]

# Operations that are not served, with the reason; the answer is 404 "page not found".
PLUGINS = "/plugins/"


def is_absent(method: str, path: str) -> bool:
    return path.startswith(PLUGINS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_is_served_or_left_out_on_purpose(method: str, path: str) -> None:
    example = path.replace("{id}", "x").replace("{name}", "x")
    assert (router().find(method, example) is None) == is_absent(method, path)


# What Sampan has beyond Docker's API, for its own command line.
UNDOCUMENTED = {("POST", "/grpc")}  # Docker's, of its builder
OWN = {
    ("GET", "/system/check"),
    ("POST", "/build/call"),
    ("POST", "/system/check"),
    ("GET", "/containers/{}/plugs"),
    ("POST", "/containers/{}/plugs"),
    ("DELETE", "/containers/{}/plugs/{interface}"),
    ("GET", "/distribution/{}/manifests"),
    ("PUT", "/distribution/{}/manifests"),
    ("POST", "/distribution/{}/blobs"),
}


def test_no_route_is_unknown_to_docker_or_to_us() -> None:
    known = {
        (method, path.replace("{id}", "{}").replace("{name}", "{}")) for method, path in OPERATIONS
    }
    ours = {
        (method, path.replace("{name:.*}", "{}").replace("{id:.*}", "{}"))
        for method, path in router().operations
    }
    ours = {(m, p.replace("{name}", "{}").replace("{id}", "{}").rstrip("/")) for m, p in ours}
    assert ours - OWN - UNDOCUMENTED <= known


STRUCTS: dict[str, type[msgspec.Struct]] = {
    "SystemInfo": system.SystemInfo,
    "SystemVersion": system.SystemVersion,
    "ContainerSummary": containers.ContainerSummary,
    "ContainerInspectResponse": containers.ContainerInspect,
    "ContainerState": containers.State,
    "ImageSummary": images.ImageSummary,
    "ImageInspect": images.ImageInspect,
    "HostConfig": config.HostConfig,
    "ContainerConfig": config.Config,
    "NetworkSettings": networks.NetworkSettings,
    "EndpointSettings": networks.EndpointSettings,
    "Network": networks.Network,
    "EventActor": events.Actor,
    "EventMessage": events.EventMessage,
    "Volume": volumes.Volume,
    "VolumeListResponse": volumes.VolumeListResponse,
    "MountPoint": containers.MountPoint,
    "RegistryServiceConfig": system.RegistryConfig,
    "PluginsInfo": system.PluginsInfo,
    "Commit": system.Commit,
    "ProcessConfig": ExecProcessConfig,
}

# Fields of the description that our answers leave out, with the reason.
LEFT_OUT: dict[str, set[str]] = {
    # only with containerd, or a license
    "SystemInfo": {"Containerd", "ProductLicense"},
    # of image stores with several platforms per image
    "ImageSummary": {"Manifests"},
    "ImageInspect": {"Manifests", "Config", "VirtualSize", "Container"},
    "ContainerSummary": {"ImageManifestDescriptor", "Health"},
    "ContainerInspectResponse": {"ImageManifestDescriptor"},
    # deprecated, and added for the versions that had it
    "Network": {"ConfigFrom", "Peers"},
    # Swarm
    "Volume": {"ClusterVolume", "Status"},
}


def field_names(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_struct_has_the_fields_of_the_description(name: str) -> None:
    described: set[str] = set(DESCRIPTION["definitions"][name])
    missing = described - field_names(STRUCTS[name]) - LEFT_OUT.get(name, set())
    assert missing == set()
