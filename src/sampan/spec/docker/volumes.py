"""Bodies of the volume endpoints of Docker's Engine API. Source: moby api/types/volume."""

from __future__ import annotations

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
    usage_data: UsageData | msgspec.UnsetType = msgspec.UNSET


class VolumeListResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /volumes."""

    volumes: list[Volume] = []
    warnings: list[str] | None = None


class VolumesPruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /volumes/prune."""

    volumes_deleted: list[str] | None = []
    space_reclaimed: int = 0
