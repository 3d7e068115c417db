"""Strings as they are written: `[true]` in a list of headers, `password: 0123`.

YAML makes a boolean and a number of these. Go's decoder, for which such files are written, knows
that a string is wanted and takes the text, as here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import yaml

from sampan.registry.configuration.nodes import Free, Many, Node, Section, Text

MOST = 100_000  # values of a document, those counted again that aliases repeat


class _AsWritten(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
    """Makes strings of all values but null."""


def _text(loader: _AsWritten, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


for _kind in ("bool", "int", "float", "timestamp"):
    _AsWritten.add_constructor(f"tag:yaml.org,2002:{_kind}", _text)


def parse(text: str | bytes, node: Node) -> Any:
    """Return what a YAML document says, with strings where the node has strings.

    Raises yaml.YAMLError, RecursionError and ValueError.
    """
    value = yaml.safe_load(text)
    written = yaml.load(text, _AsWritten)  # noqa: S506  a safe loader
    return _spelled(value, written, node, itertools.count())


def _spelled(value: Any, written: Any, node: Node | None, seen: Iterator[int]) -> Any:
    if next(seen) > MOST:
        raise ValueError(f"it has more than {MOST} values")
    if isinstance(value, dict):
        if len(written) != len(value):  # two spellings of one key, 1 and 01
            return value
        if isinstance(node, Section):
            inner = {key: node.keys.get(str(key)) for key in value}
        else:
            inner = dict.fromkeys(value, node.of if isinstance(node, Free) else None)
        pairs = zip(value.items(), written.values(), strict=True)
        return {key: _spelled(item, text, inner[key], seen) for (key, item), text in pairs}
    if isinstance(value, list) and isinstance(node, Many):
        pairs = zip(value, written, strict=True)
        return [_spelled(item, text, node.of, seen) for item, text in pairs]
    return written if isinstance(node, Text) and value is not None else value
