"""Applies a Go template (text/template) to JSON documents and table rows.

    Template("{{.State.Pid}}").apply(document)

What templates of `--format` and `inspect -f` use is here: fields, maps, methods of rows, variables,
if/else, with, range with break and continue, pipelines, comments, trimming, and the functions of
`functions.py`. Not here: define, template, block.
"""

from __future__ import annotations

from sampan.cli.template.functions import FUNCTIONS, LAZY, Nil, shown, truth, type_name
from sampan.cli.template.lexer import TemplateError
from sampan.cli.template.nodes import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from sampan.cli.template.nodes import Command, Node, Nodes, Operand, Pipeline

NO_VALUE = "<no value>"
# Fields of Docker's documents that are maps; everything else with keys is a structure.
MAPS = frozenset(
    (
        *("Annotations", "Attributes", "Containers", "Data", "Details", "DriverOpts"),
        *("ExposedPorts", "Labels", "Networks", "Options", "PortBindings", "Ports", "StorageOpt"),
        *("Sysctls", "Tmpfs", "Volumes"),
    )
)


class _Missing:
    """A key that a map does not have; it is false, and prints as NO_VALUE."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template."""

    def __init__(
        self,
        source: str,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        lenient: bool = False,
    ) -> None:
        """Parse. `functions` come beside and before Go's and docker's.

        `lenient` prints `<no value>` for a missing key; else it is an error, as on Go's structs.
        Raises TemplateError.
        """
        self.functions = {**FUNCTIONS, **(functions or {})}
        self._lenient = lenient
        self._source = source
        self._nodes = parse(source, frozenset(self.functions) | LAZY)

    def apply(self, data: Any) -> str:
        """Return the text for `data`. Raises TemplateError."""
        return _Run(self, data, self._lenient).text(self._nodes)

    def with_functions(self, functions: Mapping[str, Callable[..., Any]]) -> Template:
        """Return the same template with other functions of the same names."""
        other = object.__new__(Template)
        other.__dict__ |= self.__dict__ | {"functions": {**self.functions, **functions}}
        return other


class _Run:
    def __init__(self, template: Template, data: Any, lenient: bool) -> None:
        self._functions = template.functions
        self._lenient = lenient
        self._scope: list[tuple[str, Any]] = [("$", data)]
        self._data = data

    def text(self, nodes: Nodes) -> str:
        out: list[str] = []
        self._nodes(nodes, self._data, out)
        return "".join(out)

    def _nodes(self, nodes: Nodes, dot: Any, out: list[str]) -> None:
        for node in nodes:
            self._node(node, dot, out)

    def _node(self, node: Node, dot: Any, out: list[str]) -> None:
        if node.kind == "text":
            out.append(node.text)
        elif node.kind == "output":
            value = self._pipeline(node.pipeline, dot)
            if node.declared[0]:
                self._assign(node.declared, value)
            else:
                out.append(NO_VALUE if value is MISSING else shown(value))
        elif node.kind == "break":
            raise _Break
        elif node.kind == "continue":
            raise _Continue
        else:
            depth = len(self._scope)
            value = self._pipeline(node.pipeline, dot)
            if node.kind == "range":
                self._range(node, value, dot, out)
            else:
                if node.declared[0]:
                    self._assign(node.declared, value)
                if truth(value):
                    self._nodes(node.body, value if node.kind == "with" else dot, out)
                else:
                    self._nodes(node.otherwise, dot, out)
            del self._scope[depth:]

    def _assign(self, declared: tuple[list[str], bool], value: Any) -> None:
        names, new = declared
        if new:
            self._scope.append((names[-1], value))
            return
        for at in range(len(self._scope) - 1, -1, -1):
            if self._scope[at][0] == names[-1]:
                self._scope[at] = (names[-1], value)
                return

    def _range(self, node: Node, value: Any, dot: Any, out: list[str]) -> None:
        names, new = node.declared
        depth = len(self._scope)
        done = False
        for key, item in _items(value):
            done = True
            if new:
                pair = (key, item) if len(names) == 2 else (item,)
                self._scope += zip(names, pair, strict=True)
            elif names:
                for name, one in zip(names, (key, item)[-len(names) :], strict=True):
                    self._assign(([name], False), one)
            try:
                self._nodes(node.body, item, out)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del self._scope[depth:]
        if not done:
            self._nodes(node.otherwise, dot, out)

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        extra: tuple[Any, ...] = ()
        value: Any = None
        for command in pipeline:
            value = self._command(command, dot, extra)
            extra = (value,)
        return value

    def _command(self, command: Command, dot: Any, extra: tuple[Any, ...]) -> Any:
        first, *rest = command
        if first.kind == "function":
            if first.value in LAZY:
                return self._lazy(first.value, rest, dot, extra)
            arguments = [self._operand(operand, dot) for operand in rest]
            return self._call(first, [*arguments, *extra])
        value = self._operand(first, dot, [self._operand(item, dot) for item in rest] + [*extra])
        if (rest or extra) and not first.fields:
            raise _failure(first, f"can't give argument to non-function {first.text}")
        return value

    def _lazy(self, name: str, rest: list[Operand], dot: Any, extra: tuple[Any, ...]) -> Any:
        value: Any = None
        for operand in rest:
            value = self._operand(operand, dot)
            if truth(value) == (name == "or"):
                return value
        return extra[0] if extra else value

    def _call(self, function: Operand, arguments: list[Any]) -> Any:
        plain = [None if item is MISSING else item for item in arguments]
        name = function.value
        try:
            return self._functions[name](*plain)
        except TemplateError as error:
            raise _failure(function, f"error calling {name}: {error}") from None
        except (TypeError, AttributeError, ValueError):
            raise _failure(function, _wrong_call(self._functions[name], name, plain)) from None

    def _operand(self, operand: Operand, dot: Any, arguments: list[Any] | None = None) -> Any:
        kind = operand.kind
        if kind == "dot":
            value = dot
        elif kind == "variable":
            value = next(item for name, item in reversed(self._scope) if name == operand.value)
        elif kind == "constant":
            value = operand.value
        elif kind == "function":
            value = self._call(operand, [])
        else:
            value = self._pipeline(operand.value, dot)
        last = len(operand.fields) - 1
        for at, field in enumerate(operand.fields):
            given = arguments if at == last and arguments else ()
            value = self._field(value, field, given, operand)
        return value

    def _field(self, value: Any, name: str, arguments: Any, operand: Operand) -> Any:
        found = field_of(value, name)
        if found is MISSING and not self._lenient and not self._is_map(operand, name):
            raise _failure(operand, _no_field(value, name))
        if callable(found):
            return found(*arguments)
        if arguments:
            raise _failure(operand, f"{name} has arguments but cannot be invoked as function")
        return found

    @staticmethod
    def _is_map(operand: Operand, name: str) -> bool:
        """Whether what has no `name` is one of Docker's maps, where that is no fault."""
        at = operand.fields.index(name)
        return at > 0 and operand.fields[at - 1] in MAPS


def _failure(operand: Operand, reason: str) -> TemplateError:
    return TemplateError(f'template: :{operand.at}: executing "" at <{operand.text}>: {reason}')


def _wrong_call(function: Any, name: str, arguments: list[Any]) -> str:
    code = getattr(function, "__code__", None)
    wanted = code.co_argcount if code else len(arguments)
    if wanted != len(arguments) and not (code and code.co_flags & 4):  # CO_VARARGS
        return f"wrong number of args for {name}: want {wanted} got {len(arguments)}"
    kinds = ", ".join(map(type_name, arguments))
    return f"wrong type of arguments for {name}: {kinds}"


def _no_field(value: Any, name: str) -> str:
    if value is None:
        return f"nil pointer evaluating interface {{}}.{name}"
    if isinstance(value, dict):
        return f'map has no entry for key "{name}"'
    return f"can't evaluate field {name} in type {type_name(value)}"


def field_of(value: Any, name: str) -> Any:
    """Return a key of a map or a column of a row; MISSING if there is none.

    Go's structs have other capitals than their JSON (`.ID` and `Id`): a key that differs in
    nothing else is taken.
    """
    if isinstance(value, dict):
        if name in value:
            return value[name]
        folded = name.lower()
        for key in value:
            if key.lower() == folded:
                return value[key]
        return MISSING
    column = getattr(value, "column", None)
    return column(name, MISSING) if column else MISSING


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if value is None or value is MISSING or isinstance(value, Nil):
        return iter(())
    if isinstance(value, dict):
        return ((key, value[key]) for key in sorted(value))
    if isinstance(value, (list, tuple)):
        return iter(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return ((number, number) for number in range(value))
    raise TemplateError(
        f'template: :1: executing "" at <range>: range can\'t iterate over {shown(value)}'
    )
