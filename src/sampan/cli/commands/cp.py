"""Copy files between a container and this host."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.copying import paths
from sampan.cli.copying.paths import Place
from sampan.cli.display.units import human_size
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER:SRC_PATH DEST_PATH|-\nSRC_PATH|- CONTAINER:DEST_PATH"
ALIASES = "container cp, cp"
OPERANDS = (2, 2)
LONG = """
'-' as the source is a tar archive on STDIN, unpacked in a directory of the
container. '-' as the destination writes a tar archive of the source to STDOUT.
"""


class Options:
    changed: set[str]
    archive: bool = flag("a", "Keep owners and groups")
    follow_link: bool = flag("L", "Copy what SRC_PATH links to, not the link")
    quiet: bool = flag("q", "Do not show how it goes on; implied without a terminal")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    source, destination = operands
    if not source:
        raise Exit(1, "source can not be empty")
    if not destination:
        raise Exit(1, "destination can not be empty")
    if "quiet" not in options.changed:
        options.quiet = not cli.out.is_terminal()
    from_container, source_path = split_argument(source)
    to_container, destination_path = split_argument(destination)
    if from_container and to_container:
        raise Exit(1, "copying between containers is not supported")
    if from_container:
        return _copy_out(cli, options, from_container, source_path, destination_path)
    if to_container:
        return _copy_in(cli, options, source_path, to_container, destination_path)
    raise Exit(1, "must specify at least one container source")


def split_argument(argument: str) -> tuple[str, str]:
    """Split CONTAINER:PATH; what begins with `/` or `.` is a local path, colons or not."""
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    return container, path


def _copy_out(
    cli: Invocation, options: Options, container: str, source: str, destination: str
) -> int:
    if destination != "-":
        destination = paths.absolute(destination)
    paths.check_output(destination)
    name = ""
    if options.follow_link:
        source, name = _followed(cli, container, source)
    stat, response = cli.client.containers.get_archive(container, source)
    if destination == "-":
        cli.out.copy(response.pieces())
        return 0
    from sampan.cli.copying.unpacking import PiecesFile, unpack

    place = Place(source, True, bool(stat["mode"] & paths.MODE_DIRECTORY))
    folder, old, new = paths.target_of(place, paths.local_destination(destination))
    if name and not old:
        old, new = paths.split(source)[1], name
    file = PiecesFile(response.pieces())
    for left_out in unpack(file, folder, old, new):
        cli.err.line(f"WARNING: {left_out} is a device and was left out")
    if not options.quiet:
        cli.err.line(f"Successfully copied {human_size(file.count, 3)} to {destination}")
    return 0


def _followed(cli: Invocation, container: str, source: str) -> tuple[str, str]:
    """Return where a link in the container leads, and the name that the copy shall have."""
    try:
        stat = cli.client.containers.stat_path(container, source)
    except SampanError:
        return source, ""  # the copy itself will say what is wrong
    if not stat["mode"] & paths.MODE_LINK:
        return source, ""
    return paths.rebased(source, _link_target(source, stat))


def _link_target(path: str, stat: dict[str, Any]) -> str:
    target: str = stat["linkTarget"]
    return target if target.startswith("/") else os.path.join(paths.split(path)[0], target)


def _destination(cli: Invocation, container: str, path: str) -> Place:
    """Find a destination in the container; one link is followed."""
    containers = cli.client.containers
    shown = path
    try:
        stat = containers.stat_path(container, path)
        if stat["mode"] & paths.MODE_LINK:
            path = _link_target(path, stat)
            stat = containers.stat_path(container, path)
    except SampanError:
        return Place(path, False, False)  # not there: the upload will say what is wrong
    for bit, what in (
        (paths.MODE_DEVICE, "a device"),
        (paths.MODE_IRREGULAR, "an irregular file"),
    ):
        if stat["mode"] & bit:
            raise Exit(
                1,
                f'destination "{container}:{shown}" must be a directory or a regular file: '
                f"got {what}",
            )
    return Place(path, True, bool(stat["mode"] & paths.MODE_DIRECTORY))


def _copy_in(
    cli: Invocation, options: Options, source: str, container: str, destination: str
) -> int:
    if source != "-":
        source = paths.absolute(source)
    place = _destination(cli, container, destination)
    counter = _Counter()
    if source == "-":
        if not place.is_directory:
            raise Exit(1, f'destination "{container}:{destination}" must be a directory')
        from sampan.cli.uploads import file_pieces

        folder = place.path
        with file_pieces("-") as pieces:
            _send(cli, options, container, folder, counter.through(pieces))
    else:
        from sampan.cli.copying.packing import pack

        local = paths.local_source(source, options.follow_link)
        folder, old, new = paths.target_of(local, place)
        _send(cli, options, container, folder, counter.through(pack(local, old, new)))
    if not options.quiet:
        size = human_size(counter.count, 3)
        cli.err.line(f"Successfully copied {size} to {container}:{place.path}")
    return 0


def _send(
    cli: Invocation, options: Options, container: str, folder: str, pieces: Iterable[bytes]
) -> None:
    cli.client.containers.put_archive(container, folder, pieces, keep_owner=options.archive)


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.count += len(piece)
            yield piece
