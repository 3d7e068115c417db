"""The progress of a build as lines, one after the other: for files, pipes and logs.

Source: buildkit util/progress/progressui/printer.go (the form of the lines).
"""

from __future__ import annotations

from sampan.cli.building.steps import Step, Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.building.steps import Document
    from sampan.cli.display.output import Output

LAST_LINES = 20  # of a step that failed


class Plain:
    """Prints what happens."""

    def __init__(self, output: Output) -> None:
        self._output, self.steps = output, Steps()
        self._current: Step | None = None

    def take(self, document: Document) -> None:
        """Print what a document tells."""
        self.steps.take(document, self)
        self._output.flush()

    def begin(self, step: Step) -> None:
        """Say that a step begins."""
        self._turn_to(step)

    def line(self, step: Step, line: str) -> None:
        """Print a line of its output."""
        self._turn_to(step)
        self._say(step, line)

    def transfer(self, step: Step, text: str) -> None:
        """Say what has been transferred."""
        self._turn_to(step)
        self._say(step, text)

    def end(self, step: Step) -> None:
        """Say what it came to."""
        self._turn_to(step)
        if step.error:
            self._say(step, f"ERROR: {step.error}")
        elif step.cached:
            self._say(step, "CACHED")
        else:
            self._say(step, f"DONE {step.seconds(0):.1f}s")
        self._output.write("\n")
        self._current = None

    def _turn_to(self, step: Step) -> None:
        if self._current is step:
            return
        if self._current is not None:
            self._output.write(f"#{self._current.number} ...\n\n")
        self._current = step
        self._say(step, step.name)

    def _say(self, step: Step, text: str) -> None:
        self._output.write(f"#{step.number} {text}\n")

    def close(self) -> None:
        """Print the end: why it failed, and what it warns of."""
        conclude(self._output, self.steps)


def conclude(output: Output, steps: Steps) -> None:
    """Print the last lines of a step that failed, and the warnings."""
    step = steps.failed
    if step is not None:
        rule = "------\n"
        shown = "".join(f"{line}\n" for line in step.lines[-LAST_LINES:])
        output.write(f"{rule} > {step.name}:\n{shown}{rule}")
    elif steps.warnings:
        count = len(steps.warnings)
        output.write(f"\n {count} warning{'s' if count > 1 else ''} found:\n")
        for text in steps.warnings:
            output.write(f" - {text}\n")
    output.flush()
