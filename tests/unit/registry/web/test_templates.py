"""How values are shown."""

from __future__ import annotations

import pytest

from sampan.registry.web import templates


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (123_456, "123 kB"),
     (4_500_000, "4.5 MB"), (10**12, "1e+03 GB")],
)  # fmt: skip
def test_sizes_are_for_people(count: int | None, text: str) -> None:
    assert templates.size(count) == text


def test_digests_are_short() -> None:
    assert templates.short("sha256:" + "a" * 64) == "sha256:" + "a" * 12
    assert templates.short("none") == "none"


def test_what_is_no_time_stays_as_it_is() -> None:
    assert templates.moment("2026-01-02T03:04:05.123Z") == "2026-01-02 03:04"
    assert templates.moment("yesterday") == "yesterday"


def test_the_invisible_is_written_out() -> None:
    assert templates.visible("a\u202eb\x00\u200b") == "a\\u202eb\\u0000\\u200b"
    assert templates.visible("ä\n舢板") == "ä\n舢板"
    assert templates.visible(3) == 3
