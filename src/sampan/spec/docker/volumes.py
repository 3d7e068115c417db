"""Bodies of the volume endpoints of Docker's Engine API. Source: moby api/types/volume."""

from __future__ import annotations

from typing import Any

import msgspec


class UsageData(msgspec.Struct, rename="pascal", kw_only=True):
    """Disk use of a volume; -1 means that it was not computed."""

    ref_count: int = -1
    size: int = -1


class Volume(msgspec.Struct, rename="pascal", kw_only=True):
    """One volume."""

    created_at: str = ""
    driver: str
    labels: dict[str, str] | None = None
    mountpoint: str
    name: str
    options: dict[str, str] | None = None
    scope: str = "local"
    status: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET  # what the driver tells
    usage_data: UsageData | msgspec.UnsetType = msgspec.UNSET


class VolumeCreateRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


class VolumeListResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /volumes."""

    volumes: list[Volume] = []
    warnings: list[str] | None = None


class VolumesPruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /volumes/prune."""

    volumes_deleted: list[str] | None = []
    space_reclaimed: int = 0
