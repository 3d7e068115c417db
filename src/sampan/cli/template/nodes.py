"""Parses a Go template to a tree of nodes."""

from __future__ import annotations

from sampan.cli.template.lexer import TemplateError, Token, pieces, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Nodes = list["Node"]
    Pipeline = list["Command"]

BLOCKS = ("if", "with", "range")
CONSTANTS = {"true": True, "false": False, "nil": None}


class Node:
    """Text, an output, a block, or a loop's `break` and `continue`: told apart by `kind`."""

    __slots__ = ("body", "declared", "kind", "otherwise", "pipeline", "text")

    def __init__(
        self,
        kind: str,
        text: str = "",
        pipeline: Pipeline | None = None,
        declared: tuple[list[str], bool] = ([], False),
    ) -> None:
        self.kind = kind
        self.text = text
        self.pipeline = pipeline or []
        self.declared = declared  # names of variables, and whether they are new
        self.body: Nodes = []
        self.otherwise: Nodes = []


class Operand:
    """A value with the fields that follow it: `.A.B`, `$x.A`, `(…).A`, `"text"`, a function."""

    __slots__ = ("at", "fields", "kind", "text", "value")

    def __init__(self, kind: str, value: Any, text: str) -> None:
        self.at = "1:0"  # line and column, for messages
        self.kind = kind  # dot, variable, constant, function, pipeline
        self.value = value
        self.fields: list[str] = []
        self.text = text  # as it was written, for messages


Command = list[Operand]


def parse(source: str, functions: frozenset[str]) -> Nodes:
    """Return the tree. Raises TemplateError with Go's sentence."""
    parser = _Parser(source, functions)
    nodes, end = parser.block(())
    assert not end
    return nodes


class _Parser:
    def __init__(self, source: str, functions: frozenset[str]) -> None:
        self._source = source
        self._functions = functions
        self._pieces = pieces(source)
        self._variables = ["$"]
        self._tokens: list[Token] = []
        self._next = 0
        self._action = 0
        self._loops = 0

    def _error(self, message: str, at: int | None = None) -> TemplateError:
        place = self._action if at is None else at
        return TemplateError(f"template: :{self._source.count(chr(10), 0, place) + 1}: {message}")

    def block(self, ends: tuple[str, ...]) -> tuple[Nodes, str]:
        """Parse to one of the keywords `ends`; return the nodes and that keyword."""
        nodes: Nodes = []
        for kind, text, at in self._pieces:
            if kind == "text":
                nodes.append(Node("text", text))
                continue
            self._tokens, self._next, self._action = tokens(text, at), 0, at
            token = self._peek()
            if token is None:
                raise self._error("missing value for command")
            word = token.value if token.kind == "word" else ""
            if word in ("end", "else"):
                self._next += 1
                if word not in ends:
                    raise self._error(f"unexpected {{{{{word}}}}}")
                return nodes, word
            if word in BLOCKS:
                self._next += 1
                nodes.append(self._block(word))
            elif word in ("break", "continue"):
                self._next += 1
                if not self._loops:
                    raise self._error(f"{{{{{word}}}}} outside {{{{range}}}}")
                nodes.append(Node(word))
            else:
                nodes.append(self._output())
        if ends:
            raise self._error("unexpected EOF", len(self._source))
        return nodes, ""

    def _output(self) -> Node:
        begin = len(self._tokens) and self._tokens[0].at
        declared = self._declaration(loop=False)
        node = Node("output", pipeline=self._whole_pipeline(), declared=declared)
        node.text = self._source[begin : self._source.find("}}", begin)].strip()
        self._declare(declared)
        return node

    def _block(self, word: str) -> Node:
        scope = len(self._variables)
        declared = self._declaration(loop=word == "range")
        node = Node(word, pipeline=self._whole_pipeline(), declared=declared)
        self._declare(declared)
        self._loops += word == "range"
        node.body, end = self.block(("else", "end"))
        self._loops -= word == "range"
        if end == "else":
            chained = self._peek()
            if chained is not None and chained.value in ("if", "with") and word != "range":
                self._next += 1
                node.otherwise = [self._block(chained.value)]
            else:
                node.otherwise, _ = self.block(("end",))
        del self._variables[scope:]
        return node

    def _declare(self, declared: tuple[list[str], bool]) -> None:
        names, new = declared
        for name in names:
            if new:
                self._variables.append(name)

    def _declaration(self, loop: bool) -> tuple[list[str], bool]:
        """Parse `$x :=`, `$x =`, and in a loop `$i, $x :=`."""
        at = self._next
        names = []
        while (token := self._peek()) is not None and token.kind == "variable":
            names.append(token.value)
            self._next += 1
            sign = self._peek()
            if sign is None or sign.kind != "punct":
                break
            if sign.value in (":=", "="):
                self._next += 1
                if sign.value == "=":
                    for name in names:
                        self._check_variable(name)
                return names, sign.value == ":="
            if sign.value != "," or not loop or len(names) == 2:
                break
            self._next += 1
        self._next = at
        return [], False

    def _check_variable(self, name: str) -> None:
        if name not in self._variables:
            raise self._error(f'undefined variable "{name}"')

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _whole_pipeline(self) -> Pipeline:
        pipeline = self._pipeline()
        rest = self._peek()
        if rest is not None:
            raise self._error(f'unexpected "{rest.value}" in command')
        return pipeline

    def _pipeline(self) -> Pipeline:
        commands: Pipeline = [self._command()]
        while (token := self._peek()) is not None and token.value == "|" and token.kind == "punct":
            self._next += 1
            commands.append(self._command())
        for command in commands[1:]:
            if command[0].kind == "constant":
                raise self._error("non executable command in pipeline stage 2")
        return commands

    def _command(self) -> Command:
        operands: Command = []
        while (token := self._peek()) is not None:
            if token.kind == "punct" and token.value in ("|", ")"):
                break
            operands.append(self._operand())
        if not operands:
            raise self._error("missing value for command")
        return operands

    def _operand(self) -> Operand:
        token = self._tokens[self._next]
        self._next += 1
        operand = self._plain_operand(token)
        operand.at = self._place(token.at)
        begin = end = token.at + len(token.value) + (token.kind == "field")
        while (field := self._peek()) is not None and field.kind == "field" and not field.spaced:
            if end == begin:
                operand.at = self._place(field.at)  # where Go's parser makes it a chain
            operand.fields.append(field.value)
            end = field.at + 1 + len(field.value)
            self._next += 1
        if operand.kind in ("dot", "variable"):
            operand.text = self._source[token.at : max(end, token.at + 1)]
        return operand

    def _place(self, at: int) -> str:
        before = self._source[:at]
        return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10)) - 1}"

    def _plain_operand(self, token: Token) -> Operand:
        kind, value = token.kind, token.value
        if kind == "field":
            operand = Operand("dot", None, value)
            operand.fields.append(value)
            return operand
        if kind == "punct" and value == ".":
            return Operand("dot", None, ".")
        if kind == "variable":
            self._check_variable(value)
            return Operand("variable", value, value)
        if kind == "text":
            return Operand("constant", value, f'"{value}"')
        if kind == "char":
            return Operand("constant", ord(value), value)
        if kind == "number":
            return Operand("constant", self._number(value), value)
        if kind == "punct" and value == "(":
            pipeline = self._pipeline()
            close = self._peek()
            if close is None or close.value != ")":
                raise self._error("unclosed left paren")
            self._next += 1
            return Operand("pipeline", pipeline, "(…)")
        if kind == "word" and value in CONSTANTS:
            return Operand("constant", CONSTANTS[value], value)
        if kind == "word":
            if value not in self._functions:
                raise self._error(f'function "{value}" not defined')
            return Operand("function", value, value)
        raise self._error(f'unexpected "{value}" in operand')

    def _number(self, text: str) -> int | float:
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise self._error(f'bad number syntax: "{text}"') from None
