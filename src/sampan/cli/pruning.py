"""What the prune commands do and print; `system prune` does all of them."""

from __future__ import annotations

from sampan.cli.prompt import with_default_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

    Filters = dict[str, list[str]]


def prune_containers(cli: Invocation, filters: Filters) -> int:
    """Remove stopped containers, print them, and return the bytes that became free."""
    answer = cli.client.containers.prune(with_default_filters(cli, filters))
    _list(cli, "Deleted Containers:", answer.get("ContainersDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def prune_networks(cli: Invocation, filters: Filters) -> int:
    answer = cli.client.networks.prune(with_default_filters(cli, filters))
    _list(cli, "Deleted Networks:", answer.get("NetworksDeleted"))
    return 0


def prune_volumes(cli: Invocation, filters: Filters) -> int:
    answer = cli.client.volumes.prune(with_default_filters(cli, filters))
    _list(cli, "Deleted Volumes:", answer.get("VolumesDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def prune_images(cli: Invocation, filters: Filters, all: bool) -> int:
    given = with_default_filters(cli, filters)
    given["dangling"] = ["false" if all else "true"]
    answer = cli.client.images.prune(given)
    lines = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
        for item in answer.get("ImagesDeleted") or []
    ]
    _list(cli, "Deleted Images:", lines)
    return int(answer.get("SpaceReclaimed") or 0)


def prune_build_cache(
    cli: Invocation, filters: Filters, all: bool, keep: int = 0, most: int = 0, free: int = 0
) -> int:
    given = with_default_filters(cli, filters)
    answer = cli.client.system.prune_build_cache(all, given, keep, most, free)
    _list(cli, "Deleted build cache objects:", answer.get("CachesDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def total(cli: Invocation, reclaimed: int) -> None:
    """Print the last line of every prune command."""
    from sampan.cli.display.units import human_size

    cli.out.line("Total reclaimed space:", human_size(reclaimed))


def _list(cli: Invocation, heading: str, items: list[str] | None) -> None:
    if items:
        cli.out.write("\n".join((heading, *items)) + "\n\n")
