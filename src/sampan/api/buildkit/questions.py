"""What clients ask about a Dockerfile instead of building it: `docker build --call`, `--check`.

Source: buildkit frontend/subrequests (lint, outline, targets, describe: names, answers, texts).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.api.buildkit.subrequests import DESCRIBE, LINT, OUTLINE, TARGETS
from sampan.api.buildkit.warnings import answer as lint_answer
from sampan.build.builder import Builder
from sampan.build.built import Recipe
from sampan.build.dockerfiles.outline import Outline, Parameter, Target
from sampan.build.files.tree import Tree
from sampan.build.instructions.model import Place
from sampan.spec.build import BuildOptions

_VERSION: Final = b"1.0.0"  # of the form of all answers
_ANSWERS: Final = ["result.json", "result.txt"]
_QUESTIONS: Final = {
    OUTLINE: "List all parameters current build target supports",
    TARGETS: "List all targets current build supports",
    LINT: "Lint a Dockerfile",
    DESCRIBE: "List available subrequest types",
}


async def answer(
    builder: Builder, question: str, options: BuildOptions, recipe: Recipe, context: Tree
) -> Mapping[str, bytes]:
    """Return the metadata that answer a question."""
    if question == LINT:
        return lint_answer(recipe, await builder.check(options, recipe, context))
    if question == TARGETS:
        return _targets(recipe, await builder.targets(recipe))
    if question == OUTLINE:
        return _outline(recipe, await builder.outline(options, recipe, context))
    return _described()


def _targets(recipe: Recipe, found: Sequence[Target]) -> Mapping[str, bytes]:
    items = [
        {
            **_present(name=one.name, default=one.is_default, description=one.description),
            **_present(base=one.base, platform=one.platform),
            "location": _location(one.place),
        }
        for one in found
    ]
    rows = [("TARGET", "DESCRIPTION")]
    for one in found:
        default = "(default)" if one.is_default else ""
        rows.append((f"{one.name} {default}".strip(), one.description))
    return _metadata({"targets": items, "sources": _sources(recipe)}, _table(rows, 1))


def _outline(recipe: Recipe, found: Outline) -> Mapping[str, bytes]:
    document: dict[str, Any] = _present(name=found.name, description=found.description)
    arguments = [
        {
            "name": one.name,
            **_present(description=one.description, value=one.value),
            "location": _location(one.place),
        }
        for one in found.arguments
    ]
    document |= _present(args=arguments, secrets=_needs(found.secrets), ssh=_needs(found.ssh))
    document["sources"] = _sources(recipe)
    text = ""
    if found.name or found.description:
        rows = [("TARGET:", found.name or "(default)")]
        rows += [("DESCRIPTION:", found.description)] if found.description else []
        text = _table(rows, 1) + "\n"
    if found.arguments:
        rows3 = [(one.name, one.value, one.description) for one in found.arguments]
        text += _table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows3], 3) + "\n"
    for title, parameters in (("SECRET", found.secrets), ("SSH", found.ssh)):
        rows = [(one.name, "true" if one.required else "") for one in parameters]
        text += _table([(title, "REQUIRED"), *rows], 3) + "\n" if rows else ""
    return _metadata(document, text)


def _needs(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, **_present(required=one.required), "location": _location(one.place)}
        for one in parameters
    ]


def _described() -> Mapping[str, bytes]:
    document = [
        {
            "name": name,
            "version": _VERSION.decode(),
            "type": "rpc",
            "description": text,
            "opts": [{"name": "target", "description": "Target build stage"}]
            if name == OUTLINE
            else [],
            "inputs": None,
            "metadata": [{"name": one, "description": ""} for one in _ANSWERS],
            "refs": None,
        }
        for name, text in _QUESTIONS.items()
    ]
    rows = [(name.removeprefix("frontend."), "1.0.0", text) for name, text in _QUESTIONS.items()]
    return _metadata(document, _table([("NAME", "VERSION", "DESCRIPTION"), *rows], 1))


def _metadata(document: object, text: str) -> Mapping[str, bytes]:
    return {
        "result.json": json.dumps(document, indent=2).encode(),
        "result.txt": text.encode(),
        "version": _VERSION,
    }


def _present(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _location(place: Place) -> dict[str, Any]:
    return {"ranges": [{"start": {"line": place.first}, "end": {"line": place.last}}]}


def _sources(recipe: Recipe) -> list[str]:
    return [base64.b64encode(recipe.shown).decode()]


def _table(rows: Sequence[Sequence[str]], gap: int) -> str:
    """Return rows as Go's tabwriter aligns them; the last column is as wide as it is."""
    widths = [max(len(row[at]) for row in rows) + gap for at in range(len(rows[0]) - 1)]
    lines = ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + row[-1]
             for row in rows]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)
