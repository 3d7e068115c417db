"""How a registry is served: what the configuration says about requests and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Where the application says in an ASGI scope which route it took, who asked, and about what.
HANDLER, USER, GROUPS = "sampan.handler", "sampan.user", "sampan.groups"


@dataclass(frozen=True)
class Service:
    """The settings of the HTTP face. Defaults are docker-registry's."""

    prefix: str = "/"  # what stands before `v2/`; begins and ends with a slash
    host: str = ""  # what addresses that we give begin with, in the prefix's place; empty: as asked
    relative_urls: bool = False
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deletes: bool = False
    redirect: bool = False  # send who wants a blob to the storage, where it has an address for it
    read_only: bool = False
    catalog_max: int = 1000
    tags_max: int = 0  # that one request may choose; 0: any number
    classes: Sequence[str] = ()  # that may be pushed; empty: all
    idle_seconds: float = 300.0  # that a client may leave us waiting within a body
