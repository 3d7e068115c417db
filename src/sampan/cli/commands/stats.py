"""Show the resources that containers use, live."""

from __future__ import annotations

import threading

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.stat_columns import HEADINGS, TABLE, Entry, columns
from sampan.cli.display.output import Styled
from sampan.cli.display.table import FORMAT_HELP, render
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONTAINER...]"
ALIASES = "container stats, stats"
OPERANDS = (0, None)
REDRAW_SECONDS = 0.5
FIRST_SAMPLE_SECONDS = 4.0  # a sample takes one, and the daemon may be busy


class Options:
    all: bool = flag("a", "Show all containers (default shows just running)")
    format: str = flag("", FORMAT_HELP, default="")
    no_stream: bool = flag("", "Show one sample and end")
    no_trunc: bool = flag("", "Show everything at full length")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    board = _Board(cli, stream=not options.no_stream)
    if operands:
        for name in dict.fromkeys(operands):
            board.add(name)
    else:
        if not options.no_stream:
            board.follow_events(options.all)
        for item in cli.client.containers.list(options.all):
            board.add(item["Id"])
    board.wait_for_first()
    errors = board.errors() if operands else []
    if errors:
        raise Exit(1, "\n".join(errors))
    layout = options.format or cli.setting("statsFormat") or "table"
    layout = TABLE if layout == "table" else layout
    shown = columns(not options.no_trunc)
    if options.no_stream:
        entries = board.entries()
        if entries:
            cli.out.write(render(layout, entries, shown, HEADINGS))
        return 0
    ticks = threading.Event()
    while not ticks.wait(REDRAW_SECONDS):
        entries = board.entries()
        if operands and not entries:
            cli.out.write(b"\x1b[H\x1b[J")
            return 0
        text = render(layout, entries, shown, HEADINGS)
        frame = "".join(f"{line}\x1b[K\n" for line in text.split("\n"))
        cli.out.write(Styled(f"\x1b[H{frame}\x1b[J"))
        cli.out.flush()
    return 0


class _Board:
    """The samples of all containers, each collected by a thread with a client of its own."""

    def __init__(self, cli: Invocation, stream: bool) -> None:
        self._cli = cli
        self._stream = stream
        self._entries: dict[str, Entry] = {}
        self._errors: dict[str, str] = {}
        self._first: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def add(self, container: str) -> None:
        with self._lock:
            if container in self._entries:
                return
            self._entries[container] = Entry(container)
            self._first[container] = threading.Event()
        threading.Thread(target=self._collect, args=(container,), daemon=True).start()

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def errors(self) -> list[str]:
        with self._lock:
            return list(self._errors.values())

    def wait_for_first(self) -> None:
        for event in list(self._first.values()):
            event.wait(FIRST_SAMPLE_SECONDS)

    def _collect(self, container: str) -> None:
        entry, first = self._entries[container], self._first[container]
        try:
            with self._cli.new_client() as client:
                for sample in client.containers.stats(container, self._stream):
                    entry.sample = sample
                    entry.valid = True
                    first.set()
        except SampanError as error:
            with self._lock:
                self._errors[container] = str(error)
        finally:
            entry.valid = entry.valid and not self._stream
            first.set()

    def follow_events(self, all: bool) -> None:
        """Add containers that start and drop those that end."""
        threading.Thread(target=self._follow, args=(all,), daemon=True).start()

    def _follow(self, all: bool) -> None:
        begin = {"start", "create"} if all else {"start"}
        end = {"destroy"} if all else {"destroy", "die"}
        try:
            with self._cli.new_client() as client:
                for event in client.system.events(filters={"type": ["container"]}):
                    container = event["Actor"]["ID"]
                    if event["Action"] in begin:
                        self.add(container)
                    elif event["Action"] in end:
                        with self._lock:
                            self._entries.pop(container, None)
        except SampanError:
            return  # the list goes on with what it has
