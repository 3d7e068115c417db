"""Show what a container has printed."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER"
ALIASES = "container logs, logs"
OPERANDS = (1, 1)


class Options:
    details: bool = flag("", "Show what the log driver recorded besides")
    follow: bool = flag("f", "Go on with what comes")
    since: str = flag(
        "",
        'Only newer lines: a time ("2013-01-02T13:23:37Z") or an age ("42m")',
        default="",
    )
    tail: str = flag("n", "Number of lines from the end", default="all")
    timestamps: bool = flag("t", "Show the time of each line")
    until: str = flag(
        "",
        'Only older lines: a time ("2013-01-02T13:23:37Z") or an age ("42m")',
        default="",
    )


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    from sampan.cli.arguments.times import timestamp

    document = cli.client.containers.inspect(operands[0])
    response = cli.client.containers.logs(
        document["Id"],
        follow=options.follow,
        since=timestamp(options.since, "since"),
        until=timestamp(options.until, "until"),
        timestamps=options.timestamps,
        tail=options.tail,
        details=options.details,
    )
    if document["Config"]["Tty"]:
        cli.out.copy(response.pieces())
        return 0
    from sampan.client.frames import STDERR, Frames

    frames = Frames()
    for piece in response.pieces():
        last = None
        for stream, data in frames.feed(piece):
            output = cli.err if stream == STDERR else cli.out
            if last is not None and output is not last:
                last.flush()  # the two streams keep their order on a terminal
            output.write(data)
            last = output
        if last is not None:
            last.flush()
    return 0
