"""Characters that JSON leaves as they are and terminals obey."""

ESCAPED = {number: f"\\u{number:04x}" for number in (*range(127, 160), 0x2028, 0x2029)}
"""What stands for each of them, for `str.translate`."""
