"""Writes the reference of the command line: one page and one manual page per command.

    python -m sampan.cli.reference docs/reference/cli

The texts are the commands' own, so the pages cannot say anything else than `--help`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sampan.cli.arguments.flags import flags_of
from sampan.cli.arguments.global_options import GlobalOptions
from sampan.cli.arguments.help_text import PROGRAM, default_text, long_text, short_text, use_line
from sampan.cli.arguments.values import SHOWN
from sampan.cli.command_tree import COMMANDS, GROUPS, load
from sampan.spec.versions import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from sampan.cli.arguments.flags import Flag


def commands() -> dict[str, ModuleType]:
    """Return every command by its path: `run`, `image inspect`."""
    found = {name: load(module) for name, module in COMMANDS.items()}
    for group, (_, members) in GROUPS.items():
        for name, module in members.items():
            if module not in COMMANDS.values():
                found[f"{group} {name}"] = load(module)
    return dict(sorted(found.items()))


def pages() -> dict[str, str]:
    """Return the content of every file by its path below the reference's folder."""
    files = {"index.md": _index()}
    for path, module in commands().items():
        name = path.replace(" ", "-")
        files[f"{name}.md"] = _page(path, module)
        files[f"man/{PROGRAM}-{name}.1"] = _manual(path, module)
    return files


def _shown(options: type) -> list[Flag]:
    return sorted(
        (known for known in flags_of(options).values() if not known.hidden),
        key=lambda known: known.name,
    )


def _spelling(known: Flag) -> str:
    return f"-{known.short}, --{known.name}" if known.short else f"--{known.name}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("\n", "<br>")


def _flag_table(options: type) -> str:
    lines = ["| Flag | Type | Meaning |", "|---|---|---|"]
    for known in _shown(options):
        kind = SHOWN.get(known.kind, known.kind)
        meaning = _cell(known.help + default_text(known))
        lines.append(f"| `{_spelling(known)}` | {kind} | {meaning} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _index() -> str:
    lines = [f"# {PROGRAM}", "", "| Command | |", "|---|---|"]
    for path, module in commands().items():
        lines.append(f"| [{path}]({path.replace(' ', '-')}.md) | {_cell(short_text(module))} |")
    lines += ["", "## Flags before the command", "", _flag_table(GlobalOptions)]
    return "\n".join(lines)


def _page(path: str, module: ModuleType) -> str:
    usage = use_line(path, module).replace("\t", "")
    text = f"# {PROGRAM} {path}\n\n{long_text(module)}\n\n```\n{usage}\n```\n"
    aliases = getattr(module, "ALIASES", "")
    if aliases:
        text += f"\nAlso: {', '.join(f'`{PROGRAM} {alias}`' for alias in aliases.split(', '))}\n"
    table = _flag_table(module.Options)
    return text + (f"\n{table}" if table else "")


def _manual(path: str, module: ModuleType) -> str:
    title = f"{PROGRAM}-{path.replace(' ', '-')}"
    lines = [
        f'.TH "{title.upper()}" "1" "" "{PROGRAM} {VERSION}"',
        ".SH NAME",
        f"{_roff(title)} \\- {_roff(short_text(module))}",
        ".SH SYNOPSIS",
        *(f".B {_roff(line.strip())}\n.br" for line in use_line(path, module).split("\n")),
        ".SH DESCRIPTION",
        *(_roff(line) for line in long_text(module).split("\n")),
    ]
    flags = _shown(module.Options)
    if flags:
        lines.append(".SH OPTIONS")
    for known in flags:
        kind = "" if known.kind == "bool" else f" {SHOWN.get(known.kind, known.kind)}"
        lines += [".TP", f"\\fB{_roff(_spelling(known))}\\fR{kind}"]
        lines += [_roff(line) for line in (known.help + default_text(known)).split("\n")]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    """Escape what roff would read as a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def write(folder: Path) -> None:
    """Write all pages and remove those of commands that are gone."""
    files = pages()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for path in [*folder.glob("*.md"), *folder.glob("man/*.1")]:
        if str(path.relative_to(folder)) not in files:
            path.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
