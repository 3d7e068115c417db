"""Examples in the documentation, for the tests that run them."""

from __future__ import annotations

import re

from tests.daemon import REPOSITORY


def blocks(page: str, heading: str, language: str) -> list[str]:
    """Return the code of a language below a heading of a page of `docs`."""
    text = (REPOSITORY / "docs" / page).read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"{page} has no heading {heading}"
    found = re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.M | re.S)
    assert found, f"there is no {language} below {heading}"
    return found
