"""Truths as Go's strconv.ParseBool reads them: command lines, filters and files are made for it."""

TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def parse_bool(text: str) -> bool:
    """Return what a text means; raises ValueError in Go's words."""
    if text not in TRUE | FALSE:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in TRUE
