"""The reference page of the daemon's options is made from the table, and is not stale."""

from __future__ import annotations

from pathlib import Path

from sampan.daemon.configuration.options import FIXED, NOT_IN_FILE, ONLY_IN_FILE, OPTIONS, REFUSED

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "daemon.md"


def page() -> str:
    lines = [
        "# sampand",
        "",
        "Options of the daemon, as flags and in `daemon.json` (default `/etc/sampan/daemon.json`).",
        "An option in both places is an error. `reload`: SIGHUP applies it from the file.",
        "",
        "| flag | in daemon.json | kind | default | reload | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for option in sorted(OPTIONS, key=lambda one: one.flag):
        short = f"`-{option.short}`, " if option.short else ""
        key = "" if option.flag in NOT_IN_FILE else f"`{option.file_key}`"
        default = "" if option.default in ("", (), {}) else f"`{option.default}`"
        reload = "yes" if option.reloadable else ""
        flag = "" if option.flag in ONLY_IN_FILE else f"{short}`--{option.flag}`"
        lines.append(
            f"| {flag} | {key} | {option.kind} | {default} | {reload} | {option.meaning} |"
        )
    lines += ["", "## Options with one possible value", ""]
    for flag, (value, reason) in sorted(FIXED.items()):
        lines.append(f"- `--{flag}` must be `{value!r}`: {reason}")
    lines += ["", "## Options of dockerd that are refused", ""]
    lines += [f"- `--{flag}`: {reason}" for flag, reason in sorted(REFUSED.items())]
    return "\n".join(lines) + "\n"


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), f"write it anew: python {__file__}"


if __name__ == "__main__":
    PAGE.write_text(page())
