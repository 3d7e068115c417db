"""`images --tree`: every image with its platforms below it, in colours on a terminal.

Source of the layout: docker/cli cli/command/image/tree.go.
"""

from __future__ import annotations

from sampan.cli.containers.columns import short_id
from sampan.cli.display import harmless
from sampan.cli.display.notes import HEADING, PLAIN_HEADING, styled
from sampan.cli.display.output import Styled
from sampan.cli.display.tabwriter import display_width
from sampan.cli.display.terminal import size_of
from sampan.cli.display.units import human_size
from sampan.cli.images.columns import is_dangling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.cli.display.output import Output

    Item = dict[str, Any]

WARNING = (
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
)
DEFAULT_WIDTH, LEAST_WIDTH = 80, 20
LEAST_NAME = 12  # columns are left out until names have this much room
GAP = "   "
COLUMNS = (("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5))
RIGHT = (2, 3)  # columns that are set to the right
BRANCH, LAST_BRANCH = "├─ ", "└─ "
IN_USE = "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m"
TITLE, NAME, UNTAGGED = (39, 1), (34, 1), (39, 2)
PRESENT, ABSENT = (39,), (39, 2)


class Line:
    """What one line says after its name; `used` counts the containers of it."""

    def __init__(self, id: str, disk: int, content: int, used: bool) -> None:
        self.id = id
        self.disk = disk
        self.content = content
        self.used = used


class Branch:
    """One platform of an image."""

    def __init__(self, manifest: Item) -> None:
        image = manifest.get("ImageData") or {}
        size = manifest.get("Size") or {}
        self.platform = platform_text(image.get("Platform") or {})
        self.present = bool(manifest.get("Available"))
        self.line = Line(
            str(manifest.get("ID", "")),
            size.get("Total") or 0,
            size.get("Content") or 0,
            bool(image.get("Containers")),
        )


class Root:
    """An image with its names and branches."""

    def __init__(self, image: Item) -> None:
        manifests = image.get("Manifests") or []
        # Attestations and what is of an unknown kind have their place on the disk, but no line.
        self.branches = [Branch(item) for item in manifests if item.get("Kind") == "image"]
        names = [harmless.line(str(name)) for name in image.get("RepoTags") or []]
        self.names = sorted(names, key=len, reverse=True)
        self.line = Line(
            str(image["Id"]),
            image.get("Size") or 0,
            sum((item.get("Size") or {}).get("Content") or 0 for item in manifests),
            image.get("Containers", 0) > 0 or any(item.line.used for item in self.branches),
        )


def platform_text(platform: Item) -> str:
    """Format a platform: linux/arm64/v8."""
    if not platform.get("os"):
        return "unknown"
    parts = [platform.get(name) for name in ("os", "architecture", "variant")]
    return harmless.line("/".join(str(part) for part in parts if part))


def print_tree(output: Output, images: list[Item], all: bool) -> None:
    """Print the images, the newest first; those without any name only with `all`."""
    shown = [image for image in images if all or not is_dangling(image)]
    shown.sort(key=lambda image: -(image.get("Created") or 0))
    tree = _Tree(output, [Root(image) for image in shown])
    for line in tree.lines():
        output.write(Styled(line + "\n"))


class _Tree:
    def __init__(self, output: Output, roots: list[Root]) -> None:
        self._roots = roots
        self._terminal = output.is_terminal()
        self._tty_width = size_of(output.descriptor)[1]
        self._width = max(self._tty_width or DEFAULT_WIDTH, LEAST_WIDTH)
        self._some_used = any(item.line.used for root in roots for item in root.branches)
        self._columns = self._chosen()

    def _chosen(self) -> list[tuple[str, int]]:
        """Return the columns there is room for, that of the names first."""
        room = self._width
        columns: list[tuple[str, int]] = []
        for title, width in COLUMNS:
            if room - width - len(GAP) < LEAST_NAME:
                break
            room -= width + len(GAP)
            columns.append((title, width))
        return [("IMAGE", min(room, self._widest())), *columns]

    def _widest(self) -> int:
        # As docker counts: bytes, of which a branch's lines take three each.
        names = [len(name.encode()) for root in self._roots for name in root.names]
        branch = len(LAST_BRANCH.encode())
        branches = [
            len(item.platform.encode()) + branch for root in self._roots for item in root.branches
        ]
        return max([len("IMAGE"), *names, *branches])

    def lines(self) -> Iterator[str]:
        yield self._style(WARNING, 93)
        yield self._legend()
        yield ""
        yield GAP.join(
            self._cell(title, width, TITLE, right=at in RIGHT)
            for at, (title, width) in enumerate(self._columns)
        )
        spaced = any(root.branches for root in self._roots)
        for root in self._roots:
            yield from self._names(root)
            for at, item in enumerate(root.branches):
                last = at == len(root.branches) - 1
                style = PRESENT if item.present else ABSENT
                name = (LAST_BRANCH if last else BRANCH) + item.platform
                yield self._cell(name, self._columns[0][1], style) + self._details(item.line, style)
            if spaced:
                yield ""

    def _legend(self) -> str:
        heading = HEADING if self._terminal else PLAIN_HEADING
        chip = IN_USE if self._terminal else "U"
        width = len(PLAIN_HEADING) + (3 if self._terminal else 1) + len("  In Use ")
        return " " * (self._width - width) + f"{heading} {chip} In Use "

    def _names(self, root: Root) -> Iterator[str]:
        style, names = (NAME, root.names) if root.names else (UNTAGGED, ["<untagged>"])
        for name in names[:-1]:
            yield self._style(_shortened(name, self._tty_width), *style)
        details = self._details(root.line, PRESENT)
        yield self._cell(names[-1], self._columns[0][1], style) + details

    def _details(self, line: Line, style: tuple[int, ...]) -> str:
        values = (short_id(line.id), human_size(line.disk, 3), human_size(line.content, 3))
        text = ""
        for at, (_, width) in enumerate(self._columns[1:]):
            text += GAP
            text += (
                self._cell(values[at], width, style, right=at + 1 in RIGHT)
                if at < len(values)
                else self._chips(line.used, width)
            )
        return text

    def _chips(self, used: bool, width: int) -> str:
        if not self._some_used:
            return " " * width
        if not self._terminal:
            return ("U" if used else " ").ljust(width)
        return (IN_USE if used else "   ") + " " * (width - 3)

    def _cell(self, text: str, width: int, style: tuple[int, ...], right: bool = False) -> str:
        taken = display_width(text)
        if taken > width:
            return self._style(f"{text[: width - 1]}…", *style)
        shown, fill = self._style(text, *style), " " * (width - taken)
        return fill + shown if right else shown + fill

    def _style(self, text: str, *codes: int) -> str:
        if not self._terminal:
            return text
        return styled(text, *codes)


def _shortened(text: str, width: int) -> str:
    return f"{text[: width - 1]}…" if 0 < width <= len(text) else text
