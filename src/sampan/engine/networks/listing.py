"""Which networks `docker network ls` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sampan.engine.filters import Filters
from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import PREDEFINED
from sampan.engine.networks.store import NetworkStore
from sampan.errors import InvalidArgument
from sampan.spec.docker.networks import Network

_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")


def listed(store: NetworkStore, wanted: Mapping[str, Sequence[str]]) -> Sequence[Network]:
    """Return the networks that pass the filters."""
    filters = Filters(wanted, _FILTERS)
    for value in filters.values("type"):
        if value not in ("builtin", "custom"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    return [store.show(row) for row in store.rows.values() if _matches(store, row, filters)]


def _matches(store: NetworkStore, row: NetworkRow, wanted: Filters) -> bool:
    network = row.network
    dangling = wanted.boolean("dangling")
    if dangling is not None:
        is_unused = network.name not in PREDEFINED and not store.in_use(row)
        if dangling != is_unused:
            return False
    kind = "builtin" if network.name in PREDEFINED else "custom"
    return (
        wanted.one_of("driver", network.driver)
        and wanted.matching("name", network.name)
        and wanted.matching("id", network.id)
        and wanted.one_of("scope", network.scope)
        and wanted.one_of("type", kind)
        and wanted.labels(network.labels)
    )
