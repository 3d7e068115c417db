"""Variables of the environment that override the configuration: `REGISTRY_HTTP_ADDR=:5000`.

Source: distribution configuration/parser.go. Names are applied in their order, values are YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sampan.registry.configuration import schema, spelling
from sampan.registry.configuration.nodes import Free, Many, Node, Problem, Section

PREFIX = "REGISTRY_"
OWN = ("REGISTRY_CONFIGURATION_PATH",)


def override(document: dict[str, Any], environment: Mapping[str, str]) -> Iterator[Problem]:
    """Change a document as the environment says; yield what could not be followed."""
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in OWN:
            continue
        parts = name.removeprefix(PREFIX).split("_")
        if schema.ROOT.find(parts[0]) is None:  # Kubernetes sets REGISTRY_PORT and the like
            yield Problem("", f"unrecognized environment variable {name} is ignored", True)
            continue
        try:
            wrong = _set(document, schema.ROOT, parts, environment[name])
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            yield Problem("", f"environment variable {name} is no YAML: {error}")
            continue
        if wrong:
            yield Problem("", f"environment variable {name}: {wrong}", wrong.startswith("no "))


def _set(place: Any, node: Node, parts: list[str], text: str) -> str:
    """Set a value below a place; return why it cannot be done, empty if it was."""
    key, inner, wrong = _step(place, node, parts[0])
    if wrong or inner is None:
        return wrong
    if len(parts) == 1:
        _put(place, key, spelling.parse(text, inner))
        return ""
    held = place[key] if isinstance(place, dict) and key in place else None
    if isinstance(place, list) and key < len(place):
        held = place[key]
    if isinstance(inner, Many):
        held = held if isinstance(held, list) else []
    elif isinstance(held, str) and isinstance(inner, Section) and inner.word:
        held = {held: {}}
    elif not isinstance(held, dict):
        held = {}
    _put(place, key, held)
    return _set(held, inner, parts[1:], text)


def _step(place: Any, node: Node, name: str) -> tuple[Any, Node | None, str]:
    """Return the key that a part of a name means, and what is there."""
    if isinstance(node, Section):
        key = node.find(name)
        return key, node.keys.get(key or ""), "" if key else f"no key {name.lower()} is known"
    if isinstance(node, Free):
        known = next((key for key in place if str(key).upper() == name), name.lower())
        return known, node.of, ""
    if isinstance(node, Many):
        if not name.isdecimal():
            return None, None, f"{name} is no place in a list"
        if int(name) > len(place):
            return None, None, f"the list has no place {name}"
        return int(name), node.of, ""
    return None, None, f"no key {name.lower()} is known"


def _put(place: Any, key: Any, value: Any) -> None:
    if isinstance(place, list) and key == len(place):
        place.append(value)
    else:
        place[key] = value
