"""Volumes as clients ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sampan.errors import Conflict
from sampan.spec.docker.volumes import Volume, VolumeListResponse, VolumesPruneReport

With = Callable[[Callable[[Any, Any], Any]], None]
DATA = Volume(driver="local", mountpoint="/v/data/_data", name="data")


def test_a_volume_is_made_with_what_the_body_says(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.volumes.answers["create"] = DATA
        body = {"Name": "data", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}}
        reply = await api.ask("POST", "/volumes/create", body)
        assert reply.status == 201
        assert reply.json == {
            "CreatedAt": "", "Driver": "local", "Labels": None, "Mountpoint": "/v/data/_data",
            "Name": "data", "Options": None, "Scope": "local",
        }  # fmt: skip
        ((_, (request,), _),) = backend.volumes.calls
        assert (request.name, request.driver, request.labels) == ("data", "", {"a": "b"})
        assert request.driver_opts == {"type": "tmpfs"}

    with_api(client)


def test_an_empty_body_makes_an_anonymous_volume(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.volumes.answers["create"] = DATA
        assert (await api.ask("POST", "/volumes/create")).status == 201
        assert backend.volumes.calls[0][1][0].name == ""

    with_api(client)


def test_a_list_is_never_null(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.volumes.answers["list"] = VolumeListResponse()
        assert (await api.ask("GET", "/volumes")).json == {"Volumes": [], "Warnings": None}

    with_api(client)


@pytest.mark.parametrize(
    ("version", "filters"), [("v1.41", {"all": ["true"]}), ("v1.42", {}), ("v1.51", {})]
)
def test_a_prune_of_older_clients_takes_volumes_with_names_too(
    with_api: With, version: str, filters: dict[str, list[str]]
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.volumes.answers["prune"] = VolumesPruneReport()
        reply = await api.ask("POST", f"/{version}/volumes/prune")
        assert reply.json == {"VolumesDeleted": [], "SpaceReclaimed": 0}
        assert backend.volumes.calls[0][1] == (filters,)

    with_api(client)


def test_a_removal_may_be_forced_and_says_why_it_is_refused(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        assert (await api.ask("DELETE", "/volumes/data?force=1")).status == 204
        assert backend.volumes.calls[0] == ("remove", ("data",), {"force": True})
        backend.volumes.answers["remove"] = Conflict("remove data: volume is in use - [abc]")
        reply = await api.ask("DELETE", "/volumes/data")
        assert (reply.status, reply.message) == (409, "remove data: volume is in use - [abc]")

    with_api(client)


def test_cluster_volumes_need_a_swarm(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("PUT", "/volumes/data?version=1", {"Spec": {}})
        assert reply.status == 503
        assert "only valid for cluster volumes" in reply.message

    with_api(client)
