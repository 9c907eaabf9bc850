"""Conditions of an AnalysisTemplate, as in `len(result) == 0 || result[0] >= 0.95`.

The part of the expr language that Argo Rollouts' conditions use (https://expr-lang.org/docs/language-definition):
numbers, strings, true, false, nil, `result`, indexes, `. + - * / %`, comparisons, `in`, `and or not && || !`, `?:`,
and the functions len, isNaN, isInf, isNil, asInt, asFloat, abs, max, min, all, any, none, default.

As in Argo, an index that is not there is an error of the measurement. `default(x, value)` is `value` when x is nil,
and also when x is such an index: `default(result[0], 0)` is 0 for an empty result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_TOKENS = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|(?P<text>\"[^\"]*\"|'[^']*')|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/%<>!?:()\[\],#{}]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "in": lambda a, b: a in b,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: _divided(a, b),
    "%": lambda a, b: a % b,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "isNaN": math.isnan, "isInf": math.isinf, "isNil": lambda value: value is None,
    "asInt": lambda value: int(value), "asFloat": lambda value: float(value), "abs": abs, "max": max, "min": min,
}  # fmt: skip
_QUANTIFIERS: dict[str, Callable[[Any], bool]] = {"all": all, "any": any, "none": lambda values: not any(values)}
_DEEPEST = 50
_LONGEST = 2000
_Node = Callable[[dict[str, Any]], Any]


class ConditionError(ValueError):
    """A condition that is not one, or that cannot be evaluated over this result."""


def check(condition: str) -> None:
    """Raise ConditionError when it is not a condition."""
    _Parser(condition).parse()


def holds(condition: str, result: Any) -> bool:
    """Whether the condition is true of a result: a number, or a list of numbers.

    Raises:
        ConditionError: not a condition, not a truth value, or it cannot be evaluated.
    """
    node = _Parser(condition).parse()
    try:
        value = node({"result": result})
    except (TypeError, ValueError, IndexError, KeyError, OverflowError, ZeroDivisionError) as error:
        if isinstance(error, IndexError):
            raise ConditionError(
                "the result is shorter than the index asks for; guard it with len(result) > 0"
            ) from error
        raise ConditionError(f"{condition}: {error}") from error
    if not isinstance(value, bool):
        raise ConditionError(f"{condition}: is {value!r}, and not true or false")
    return value


def _divided(a: float, b: float) -> float:
    """As floating point divides: by zero gives infinity or NaN."""
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


class _Parser:
    """Recursive descent; each level of binding is one method."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    def parse(self) -> _Node:
        node = self.choice()
        if self.at < len(self.tokens):
            raise ConditionError(f"{self.text}: {self.tokens[self.at]!r} is not expected here")
        return node

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """One level down. Raises ConditionError where no person would write on."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ConditionError(f"{self.text[:50]}: nested too deep")
        yield
        self.depth -= 1

    def choice(self) -> _Node:
        with self.deeper():
            return self.chosen()

    def chosen(self) -> _Node:
        condition = self.either()
        if self.took("?"):
            then = self.choice()
            self.need(":")
            other = self.choice()
            condition = _chosen(condition, then, other)
        return condition

    def either(self) -> _Node:
        nodes = [self.both()]
        while self.took("||", "or"):
            nodes.append(self.both())
        return nodes[0] if len(nodes) == 1 else lambda env: any(_truth(node(env)) for node in nodes)

    def both(self) -> _Node:
        nodes = [self.negation()]
        while self.took("&&", "and"):
            nodes.append(self.negation())
        return nodes[0] if len(nodes) == 1 else lambda env: all(_truth(node(env)) for node in nodes)

    def negation(self) -> _Node:
        if self.took("not"):
            with self.deeper():
                node = self.negation()
            return lambda env: not _truth(node(env))
        return self.comparison()

    def comparison(self) -> _Node:
        node = self.sum()
        while sign := self.took(*_COMPARISONS):
            node = _compared(_COMPARISONS[sign], node, self.sum())
        return node

    def sum(self) -> _Node:
        node = self.product()
        while sign := self.took("+", "-"):
            node = _applied(_ARITHMETIC[sign], node, self.product())
        return node

    def product(self) -> _Node:
        node = self.unary()
        while sign := self.took("*", "/", "%"):
            node = _applied(_ARITHMETIC[sign], node, self.unary())
        return node

    def unary(self) -> _Node:
        if self.took("-"):
            with self.deeper():
                node = self.unary()
            return lambda env: -node(env)
        if self.took("!"):
            with self.deeper():
                node = self.unary()
            return lambda env: not _truth(node(env))
        return self.indexed()

    def indexed(self) -> _Node:
        node = self.plain()
        while self.took("["):
            node = _item(node, self.choice())
            self.need("]")
        return node

    def plain(self) -> _Node:
        token = self.next()
        if self.took("("):
            return self.call(token)
        if token == "(":
            node = self.choice()
            self.need(")")
            return node
        if token[0] in "\"'":
            return lambda env: token[1:-1]
        if token[0].isdigit() or token[0] == ".":
            number = float(token) if any(sign in token for sign in ".eE") else int(token)
            return lambda env: number
        if token in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[token]
            return lambda env: constant
        if token in ("result", "#"):
            return lambda env: env[token]
        raise ConditionError(f"{self.text}: {token!r} is not known; a condition is about `result`")

    def call(self, name: str) -> _Node:
        if name in _QUANTIFIERS:
            items = self.choice()
            self.need(",")
            braces = self.took("{")
            holds_of = self.choice()
            if braces:
                self.need("}")
            self.need(")")
            return lambda env: _QUANTIFIERS[name](_truth(holds_of({**env, "#": item})) for item in items(env))
        arguments = []
        while not self.took(")"):
            arguments.append(self.choice())
            if not self.took(","):
                self.need(")")
                break
        if name == "default" and len(arguments) == 2:
            return _defaulted(*arguments)
        if name not in _FUNCTIONS or not arguments:
            known = ", ".join(sorted([*_FUNCTIONS, *_QUANTIFIERS, "default"]))
            raise ConditionError(f"{self.text}: there is no such function: {name}; known: {known}")
        function = _FUNCTIONS[name]
        return lambda env: function(*(argument(env) for argument in arguments))

    def took(self, *signs: str) -> str:
        """The next token if it is one of `signs`, consumed; else ""."""
        if self.at < len(self.tokens) and self.tokens[self.at] in signs:
            self.at += 1
            return self.tokens[self.at - 1]
        return ""

    def need(self, sign: str) -> None:
        if not self.took(sign):
            found = self.tokens[self.at] if self.at < len(self.tokens) else "the end"
            raise ConditionError(f"{self.text}: {sign!r} is expected, not {found!r}")

    def next(self) -> str:
        if self.at >= len(self.tokens):
            raise ConditionError(f"{self.text or 'an empty condition'}: something is missing at the end")
        self.at += 1
        return self.tokens[self.at - 1]


def _tokens(text: str) -> Sequence[str]:
    found, position = [], 0
    text = text.rstrip()
    if len(text) > _LONGEST:
        raise ConditionError(f"{text[:50]}…: longer than {_LONGEST} characters")
    while position < len(text):
        token = _TOKENS.match(text, position)
        if token is None:
            raise ConditionError(f"{text}: {text[position:].strip()[:1]!r} cannot be read")
        found.append(token[0].strip())
        position = token.end()
    return found


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _chosen(condition: _Node, then: _Node, other: _Node) -> _Node:
    return lambda env: then(env) if _truth(condition(env)) else other(env)


def _compared(compare: Callable[[Any, Any], bool], left: _Node, right: _Node) -> _Node:
    return lambda env: compare(left(env), right(env))


def _applied(apply: Callable[[Any, Any], Any], left: _Node, right: _Node) -> _Node:
    return lambda env: apply(left(env), right(env))


def _item(node: _Node, index: _Node) -> _Node:
    return lambda env: node(env)[index(env)]


def _defaulted(node: _Node, other: _Node) -> _Node:
    def value(env: dict[str, Any]) -> Any:
        try:
            found = node(env)
        except IndexError:
            found = None
        return other(env) if found is None else found

    return value
