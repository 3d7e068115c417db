"""What is legal in a Dockerfile and better written otherwise: BuildKit's checks.

Source: docker documentation, "Build checks" (rules, and what each is about); buildkit
frontend/dockerfile/linter (messages).
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.build.contexts.ignore import Ignore
from sampan.build.dockerfiles.arguments import Arguments
from sampan.build.dockerfiles.dockerfile import Dockerfile, Stage
from sampan.build.dockerfiles.shell import Shell
from sampan.build.dockerfiles.source import Node
from sampan.build.dockerfiles.usage import Environments, look
from sampan.build.instructions import model
from sampan.build.instructions.suggesting import hint
from sampan.errors import InvalidArgument
from sampan.spec.booleans import parse_bool
from sampan.spec.reference import Reference

_DOCUMENTATION: Final = "https://docs.docker.com/go/dockerfile/rule/"
_EXPERIMENTAL: Final = frozenset(["InvalidDefinitionDescription"])
_RESERVED: Final = ("context", "scratch")
_SECRET: Final = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I
)
_NO_SECRET: Final = re.compile(r"(?:^|_)(?:public|file|version)(?:_|$)", re.I)
_ONCE: Final = (model.Command, model.Entrypoint, model.HealthCheck)
_WORD: Final = re.compile("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where one begins
_MAX: Final = 1000  # violations that are told


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule is not kept."""

    rule: str
    message: str
    first: int  # lines
    last: int

    @property
    def url(self) -> str:
        """The page about the rule."""
        return f"{_DOCUMENTATION}{_WORD.sub('-', self.rule).lower()}/"

    def __str__(self) -> str:
        return f"{self.rule}: {self.message} (line {self.first})"


@dataclass(frozen=True, slots=True)
class Checks:
    """What the directive `check` says: `skip=RULE,RULE;error=true`, or `skip=all`."""

    skipped: frozenset[str] = frozenset()
    are_errors: bool = False
    experimental: frozenset[str] = frozenset()  # rules that count only if they are named

    @classmethod
    def parse(cls, text: str) -> Checks:
        """Return what a directive says, in its first word. Raises InvalidArgument."""
        lists = {"skip": frozenset[str](), "experimental": frozenset[str]()}
        are_errors = False
        for part in filter(None, "".join(text.split()[:1]).split(";")):
            key, _, value = part.partition("=")
            if "=" in part and key in lists:
                lists[key] = frozenset(value.split(","))
            elif key == "error" and "=" in part:
                are_errors = _error_switch(part, value)
            else:
                raise InvalidArgument(
                    f'failed to parse check options: invalid check option "{key}"'
                )
        return cls(lists["skip"], are_errors, lists["experimental"])

    def counts(self, rule: str) -> bool:
        """Tell whether what is found by a rule is told."""
        if rule in _EXPERIMENTAL:
            return bool({rule, "all"} & self.experimental)
        return not {rule, "all"} & self.skipped

    def counts_here(self, rule: str) -> bool:
        """Tell the same of a comment above an instruction, which can only leave rules out."""
        return rule in _EXPERIMENTAL or self.counts(rule)

    def apply(self, violations: Iterable[Violation]) -> list[Violation]:
        """Leave out what is skipped; raise InvalidArgument for the rest if they are errors."""
        kept = [one for one in violations if self.counts(one.rule)][:_MAX]
        if kept and self.are_errors:
            rules = ", ".join(sorted({one.rule for one in kept}))
            raise InvalidArgument(f"lint violation found for rules: {rules}")
        return kept


def _error_switch(part: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError as error:
        raise InvalidArgument(
            f'failed to parse check options: failed to parse check option "{part}": {error}'
        ) from error


def lint(
    dockerfile: Dockerfile,
    stages: Sequence[Stage],
    arguments: Arguments,
    environments: Environments,
    ignored: Sequence[str] = (),
) -> list[Violation]:
    """Return what the checks find in a Dockerfile, in the order of its lines.

    Of `stages` it is told what they use: see usage.look. `ignored`: of `.dockerignore`.
    """
    found = [*_of_lines(dockerfile), *_of_stages(dockerfile, arguments.from_variables())]
    for stage in dockerfile.stages:
        found += _of_instructions(stage)
        found += _of_copies(stage, ignored)

    def report(rule: str, message: str, place: model.Place) -> None:
        found.append(_of(rule, message, place))

    look(dockerfile, stages, arguments, environments, report)
    quiet = {node.first: _of_comments(node.comments) for node in dockerfile.source.nodes}
    everywhere = Checks()
    told = [one for one in found if quiet.get(one.first, everywhere).counts_here(one.rule)]
    return sorted(told, key=lambda one: one.first)


def _of_comments(comments: Sequence[str]) -> Checks:
    """Return what `# check=…` right above an instruction says, for that one alone."""
    for comment in comments:
        if comment.startswith("check=") and "skip=" in comment:
            try:
                return Checks.parse(comment.removeprefix("check="))
            except InvalidArgument:
                break
    return Checks()


# --- lines ---------------------------------------------------------------------------------


def _of_lines(dockerfile: Dockerfile) -> Iterator[Violation]:
    source = dockerfile.source
    for line in source.empty_continuations:
        yield Violation("NoEmptyContinuation", "Empty continuation line", line, line)
    lower = sum(node.keyword.islower() for node in source.nodes)
    majority = "lowercase" if lower > len(source.nodes) / 2 else "uppercase"
    for node in source.nodes:
        wanted = node.keyword.lower() if majority == "lowercase" else node.keyword.upper()
        if node.keyword != wanted:
            message = (
                f"Command '{node.keyword}' should match the case of the command majority"
                f" ({majority})"
            )
            yield _at("ConsistentInstructionCasing", message, node)
        if node.name == "FROM":
            yield from _of_from(node)
        if node.comments and node.name in ("FROM", "ARG"):
            yield from _of_description(node)


def _of_from(node: Node) -> Iterator[Violation]:
    words = node.rest.split()
    if len(words) != 3:
        return
    _, keyword, name = words
    if keyword.isupper() != node.keyword.isupper():
        message = f"'{keyword}' and '{node.keyword}' keywords' casing do not match"
        yield _at("FromAsCasing", message, node)
    if name != name.lower():
        yield _at("StageNameCasing", f"Stage name '{name}' should be lowercase", node)


def _of_description(node: Node) -> Iterator[Violation]:
    words = node.rest.split()
    if node.name == "FROM":
        names = [words[2].lower()] if len(words) == 3 else []
    else:
        names = [word.partition("=")[0] for word in words]
    if names and node.comments[-1].split(" ")[0] not in names:
        shown = names[0] if len(names) == 1 else "<arg_key>"
        message = f"Comment for {node.name} should follow the format: `# {shown} <description>`"
        yield _at("InvalidDefinitionDescription", message, node)


def _of_copies(stage: Stage, ignored: Sequence[str]) -> Iterator[Violation]:
    """Find what is copied from the context that is not there; exceptions are too much to say."""
    if not ignored or any(pattern.startswith("!") for pattern in ignored):
        return
    ignore = Ignore(ignored)
    for it in stage.instructions:
        if not isinstance(it, model.Copy) or it.origin:
            continue
        for source in it.sources:
            path = posixpath.normpath(source).lstrip("/") or "."
            if path == "." or "$" in path or "://" in path or not ignore.hides(path):
                continue
            verb = "Add" if it.add else "Copy"
            message = f'Attempting to {verb} file "{path}" that is excluded by .dockerignore'
            yield _of("CopyIgnoredFile", message, it.place)


def _at(rule: str, message: str, node: Node) -> Violation:
    return Violation(rule, message, node.first, node.last)


# --- stages --------------------------------------------------------------------------------


def _of_stages(dockerfile: Dockerfile, variables: Mapping[str, str]) -> Iterator[Violation]:
    names = Counter(stage.begin.name for stage in dockerfile.stages if stage.begin.name)
    shell = Shell(dockerfile.source.escape)
    defaults = dict(one for it in dockerfile.arguments for one in it.variables)
    seen: set[str] = set()
    for stage in dockerfile.stages:
        begin, place = stage.begin, stage.begin.place
        if begin.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{begin.name}"'
            yield _of("ReservedStageName", message, place)
        if names[begin.name] > 1 and begin.name in seen:
            message = f'Duplicate stage name "{begin.name}", stage names should be unique'
            yield _of("DuplicateStageName", message, place)
        seen.add(begin.name)
        yield from _of_image(begin, shell, variables, defaults)


def _of_image(
    begin: model.From,
    shell: Shell,
    variables: Mapping[str, str],
    defaults: Mapping[str, str | None],
) -> Iterator[Violation]:
    place = begin.place
    image = shell.expand(begin.image, variables)
    platform = shell.expand(begin.platform, variables)
    for name in sorted(image.unset | platform.unset):
        if name not in defaults:
            meant = hint(name, [*defaults, *variables], exact_case=True)
            message = f"FROM argument '{name}' is not declared{meant}"
            yield _of("UndefinedArgInFrom", message, place)
    if image.used and all(name in defaults for name in image.used):
        plain = {name: value for name, value in defaults.items() if value is not None}
        if not _is_name(shell.expand(begin.image, plain).text):
            message = (
                f"Default value for ARG {begin.image} results in empty or invalid base image name"
            )
            yield _of("InvalidDefaultArgInFrom", message, place)
    if begin.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        message = (
            f"Setting platform to predefined {begin.platform} in FROM is redundant as this is the"
            " default behavior"
        )
        yield _of("RedundantTargetPlatform", message, place)
    elif begin.platform and not platform.used and not _names(begin.name, begin.platform):
        message = f'FROM --platform flag should not use constant value "{begin.platform}"'
        yield _of("FromPlatformFlagConstDisallowed", message, place)


def _names(stage: str, platform: str) -> bool:
    """Tell whether the name of a stage says for which platform it is."""
    return any(part in stage for part in platform.split("/")[:2])


def _is_name(text: str) -> bool:
    try:
        Reference.parse(text)
    except InvalidArgument:
        return text == "scratch"
    return True


def _of(rule: str, message: str, place: model.Place) -> Violation:
    return Violation(rule, message, place.first, place.last)


# --- instructions --------------------------------------------------------------------------


def _of_instructions(stage: Stage) -> Iterator[Violation]:
    last = {type(it): it for it in stage.instructions if isinstance(it, _ONCE)}
    has_shell = False
    for it in stage.instructions:
        has_shell |= isinstance(it, model.ShellCommand)
        name = it.place.text.split(None, 1)[0].upper() if it.place.text else ""
        if isinstance(it, _ONCE) and last[type(it)] is not it:
            message = (
                f"Multiple {name} instructions should not be used in the same stage because only"
                " the last one will be used"
            )
            yield _of("MultipleInstructionsDisallowed", message, it.place)
        if isinstance(it, model.Command | model.Entrypoint):
            if it.shell_form and not has_shell:
                message = (
                    f"JSON arguments recommended for {name} to prevent unintended behavior related"
                    " to OS signals"
                )
                yield _of("JSONArgsRecommended", message, it.place)
        elif isinstance(it, model.Maintainer):
            message = "Maintainer instruction is deprecated in favor of using label"
            yield _of("MaintainerDeprecated", message, it.place)
        elif isinstance(it, model.Expose):
            yield from _of_ports(it)
        else:
            yield from _of_pairs(it, name)


def _of_pairs(it: model.Instruction, name: str) -> Iterator[Violation]:
    if isinstance(it, model.Env | model.Label) and it.old_form:
        message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
        yield _of("LegacyKeyValueFormat", message, it.place)
    names: Sequence[str] = []
    if isinstance(it, model.Env):
        names = [key for key, _ in it.pairs]
    elif isinstance(it, model.Arg):
        names = [key for key, _ in it.variables]
    for key in names:
        if _SECRET.search(key) and not _NO_SECRET.search(key):
            message = f'Do not use ARG or ENV instructions for sensitive data ({name} "{key}")'
            yield _of("SecretsUsedInArgOrEnv", message, it.place)


def _of_ports(it: model.Expose) -> Iterator[Violation]:
    for port in it.ports:
        number, slash, protocol = port.partition("/")
        if slash and protocol != protocol.lower():
            message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            yield _of("ExposeProtoCasing", message, it.place)
        if ":" in number and "$" not in number:
            message = (
                f"EXPOSE instruction should not define an IP address or host-port mapping, found"
                f" '{port}'"
            )
            yield _of("ExposeInvalidFormat", message, it.place)
