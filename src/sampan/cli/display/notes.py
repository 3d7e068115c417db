"""Notes beside a command's output, and the colours that lists have on a terminal.

Source of the looks: docker/cli internal/tui.
"""

from __future__ import annotations

from sampan.cli.display import harmless
from sampan.cli.display.output import Styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.display.output import Output

RESET = "\x1b[0m"
HEADING = "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m \x1b[0m\x1b[96mInfo → \x1b[0m"
PLAIN_HEADING = " Info -> "


def styled(text: str, *codes: int) -> str:
    """Return the text between the escape sequences of these codes and the reset."""
    return "".join(f"\x1b[{code}m" for code in codes) + text + RESET


def note(output: Output, text: str) -> None:
    """Print a note of one or more lines."""
    terminal = output.is_terminal()
    indent = " " * len(PLAIN_HEADING)
    if terminal:
        text = text.replace("--platform", styled("--platform", 1))
    lines = [styled(line, 3) if terminal else line for line in text.split("\n")]
    heading = HEADING if terminal else PLAIN_HEADING
    output.write(Styled(f"\n{heading}" + f"\n{indent}".join(lines) + "\n"))


def pushed_instead(output: Output, original: str, selected: str) -> None:
    """Say that of an index only one platform's manifest was pushed."""
    original, selected = harmless.line(original), harmless.line(selected)
    if output.is_terminal():
        original, selected = styled(original, 31), styled(selected, 32)
    note(
        output,
        "Not all multiplatform-content is present and only the available single-platform image "
        f"was pushed\n{original} -> {selected}",
    )
