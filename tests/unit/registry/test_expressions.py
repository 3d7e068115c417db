from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.expressions import expression


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        (r"^https?://([^/]+\.)*example\.com/", "https://a.b.example.com/x", True),
        (r"^https?://([^/]+\.)*example\.com/", "https://example.org/example.com/", False),
        (r"example\.com/?\z", "https://example.com/", True),  # Go's end of the text
        (r"(?i)EXAMPLE", "https://example.com/", True),
    ],
)
def test_an_expression_is_found_anywhere(pattern: str, text: str, is_found: bool) -> None:
    assert (expression(pattern).search(text) is not None) == is_found


@pytest.mark.parametrize("pattern", ["(", r"(?=a)", r"(a)\1", "a{1001}"])
def test_what_go_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="is no regular expression: "):
        expression(pattern)
