"""Requirements, ``$attr(X)`` compared with constants, as an OR of ANDs (hides that there are two ways to write them).

Negation is pushed inwards first. A comparison with an unknown attribute is false, also negated; only ``not $attr(X)``
is true of an unknown X, and it alone is written ``(X, "!=", True)``: ``$attr(X) != true`` becomes ``(X, "==", False)``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from icp.dsl.arithmetic import number_in
from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.normal_form import (
    Attribute,
    Constant,
    Many,
    Not,
    Test,
    Truth,
    check_size,
    fixed,
    proposition,
    push,
    reduce,
    simplest,
    term,
    unique,
)
from icp.dsl.syntax import START, BadExpression, call_at, nearest
from icp.model.definition import Resources
from icp.model.need import Comparison, Disjunction
from icp.pilot.needs import compare

__all__ = ["Requirement", "compile_", "compile_requirement", "fold"]

MAX_TERMS = 64
"""Comparisons in one alternative."""
MAX_DEPTH = 40

CPU: Comparison = ("CPU", "==", True)
GPU: Comparison = ("HasGPU", "==", True)

_TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<op>&&|\|\||[=!<>]=|[<>!()+-])"
    r"|(?P<text>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"))"
)
_WORDS = {"and": "and", "or": "or", "not": "not", "true": True, "false": False, "True": True, "False": False}
_SYMBOLS = {"&&": "and", "||": "or"}


class _Parser:
    """Recursive descent over one requirement; ``compiler`` knows what its expressions mean."""

    def __init__(self, text: str, compiler: Compiler, place: Place, depth: int = 0) -> None:
        if depth > 20 or len(text) > 10_000:
            raise BadExpression(text[:40], "the requirement is too large")
        self.whole = text
        self.compiler = compiler
        self.place = place
        self.level = depth
        self.uses: set[tuple[str, str]] = set()
        self.tokens = self._tokens(text)
        self.at = 0

    def parse(self) -> Any:
        if not self.tokens:
            raise BadExpression(self.whole, "the requirement is empty; leave it out")
        node = self._either(self.level)
        if self.at < len(self.tokens):
            raise BadExpression(self.whole, f"'and' or 'or' expected before {self._next()[1]!r}")
        return proposition(node)

    def _tokens(self, text: str) -> list[tuple[str, Any]]:
        tokens: list[tuple[str, Any]] = []
        position = 0
        while text[position:].strip():
            position += len(text[position:]) - len(text[position:].lstrip())
            match = START.match(text, position)
            if match is not None and not match.group(1):
                call = call_at(text, match)
                tokens.append(("call", call))
                position = call.end
                continue
            match = _TOKEN.match(text, position)
            if match is None:
                hint = "; comparisons are == != < <= > >=" if text[position] in "=&|" else ""
                raise BadExpression(text, f"{text[position : position + 10]!r} is not possible in requirements{hint}")
            position = match.end()
            kind, found = match.lastgroup, match.group().strip()
            if kind == "number":
                tokens.append(("value", number_in(found)))
            elif kind == "text":
                tokens.append(("value", re.sub(r"\\(.)", r"\1", found[1:-1])))
            elif kind == "op":
                tokens.append(("op", _SYMBOLS.get(found, found)))
            elif found in _WORDS:
                known = _WORDS[found]
                tokens.append(("value", known) if isinstance(known, bool) else ("op", known))
            else:
                meant = nearest(found, _WORDS)
                raise BadExpression(
                    text,
                    f"{found!r} is not possible in requirements; an attribute is $attr({found}), text has quotes",
                    meant,
                )
        return tokens

    def _next(self) -> tuple[str, Any]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "the end")

    def _take(self, *operators: str) -> str | None:
        kind, value = self._next()
        if kind == "op" and value in operators:
            self.at += 1
            return str(value)
        return None

    def _either(self, depth: int) -> Any:
        return self._chain("or", lambda: self._chain("and", lambda: self._negation(depth)))

    def _chain(self, word: str, part: Callable[[], Any]) -> Any:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Many(word == "and", tuple(proposition(p) for p in parts))

    def _negation(self, depth: int) -> Any:
        if self._take("not"):
            if depth > MAX_DEPTH:
                raise BadExpression(self.whole[:40], "the requirement is nested too deeply")
            return Not(proposition(self._negation(depth + 1)))
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Any:
        left = self._operand(depth)
        tests: list[Any] = []
        while op := self._take(*_COMPARE):
            right = self._operand(depth)
            tests.append(self._compare(left, op, right))
            left = right
        if not tests:
            return left
        return tests[0] if len(tests) == 1 else Many(True, tuple(tests))

    def _operand(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise BadExpression(self.whole[:40], "the requirement is nested too deeply")
        if self._take("!"):
            inner = self._operand(depth + 1)
            kind, value = self._next()
            if kind == "op" and value in _COMPARE:
                raise BadExpression(self.whole, "'!' before a comparison: put the comparison in brackets, !( ... )")
            return Not(proposition(inner))
        if self._take("("):
            inner = self._either(depth + 1)
            if not self._take(")"):
                raise BadExpression(self.whole, f"')' expected before {self._next()[1]!r}")
            return inner
        sign = self._take("-", "+")
        kind, value = self._next()
        self.at += 1
        if kind == "value" and not (sign and (isinstance(value, bool) or not isinstance(value, int | float))):
            return Constant(fixed(-value if sign == "-" else value))
        if kind == "call" and not sign:
            return self._call(value)
        raise BadExpression(
            self.whole, f"$attr(NAME) or a constant expected, found {value if kind != 'call' else value.text!r}"
        )

    def _call(self, call: Any) -> Any:
        compiled = self.compiler.call(call, self.place)
        if call.name == "attr":
            (use,) = compiled.uses
            return Attribute(use[1])
        if any(kind == "system" for kind, _ in compiled.uses):
            raise BadExpression(call.text, "$system is not known in requirements; use $attr")
        if any(kind == "attr" for kind, _ in compiled.uses):
            if call.name == "steering" and isinstance(compiled.text, str) and compiled.text == call.text:
                return self._included(call)
            raise BadExpression(
                call.text, "it cannot be reduced to comparisons: compare $attr(NAME) itself with a constant"
            )
        self.uses |= compiled.uses
        return Constant(compiled)

    def _included(self, call: Any) -> Any:
        value = self.compiler.plain(call.body.strip())
        if not isinstance(value, str):
            raise BadExpression(call.text, "it cannot be reduced to comparisons")
        inner = _Parser(value, self.compiler, self.place, self.level + 1)
        node = inner._either(inner.level)
        if inner.at < len(inner.tokens):
            raise BadExpression(call.text, f"{value!r} is no requirement")
        self.uses |= inner.uses
        return node

    def _compare(self, left: Any, op: str, right: Any) -> Any:
        if isinstance(left, Attribute) and isinstance(right, Constant):
            return self._test(left.name, op, right.value)
        if isinstance(left, Constant) and isinstance(right, Attribute):
            return self._test(right.name, _TURNED[op], left.value)
        if isinstance(left, Constant) and isinstance(right, Constant):
            first, second, function, text = left.value.run, right.value.run, _COMPARE[op], self.whole

            def run(scope: Any) -> bool:
                try:
                    return bool(function(number_in(first(scope)), number_in(second(scope))))
                except TypeError as error:
                    raise BadExpression(text, str(error)) from None

            return Truth(run)
        if isinstance(left, Attribute) and isinstance(right, Attribute):
            raise BadExpression(
                self.whole, f"$attr({left.name}) and $attr({right.name}) cannot be compared with each other"
            )
        raise BadExpression(self.whole, f"'{op}' stands between an attribute and a constant only")

    def _test(self, name: str, op: str, value: Compiled) -> Test:
        if value.constant:
            term(name, op, value.run(None))
        return Test(name, op, value)


class Requirement:
    """A compiled requirement; ``uses`` is what its constants ask of a job."""

    def __init__(self, node: Any, text: str, uses: frozenset[tuple[str, str]]) -> None:
        self._node = node
        self._text = text
        self.uses = uses
        self._kept: dict[bool, Disjunction] = {}

    def reduce(self, scope: Any, gpu: bool) -> Disjunction:
        """The OR of ANDs for this job; ``gpu``: the resources ask for one. BadExpression if a constant has no value."""
        if gpu in self._kept:
            return self._kept[gpu]
        if self._node is None:
            clauses: Disjunction = ((GPU,),) if gpu else ((CPU,),)
        else:
            try:
                clauses = simplest(reduce(self._node, scope))
            except BadExpression as error:
                raise BadExpression(error.expression or self._text, error.reason, error.meant) from None
            if gpu:
                clauses = simplest(tuple(unique((*clause, GPU)) for clause in clauses))
        if any(len(clause) > MAX_TERMS for clause in clauses):
            raise BadExpression(self._text, f"one alternative has more than {MAX_TERMS} comparisons")
        if not self.uses:
            self._kept[gpu] = clauses
        return clauses


def compile_requirement(text: str, compiler: Compiler, place: Place) -> Requirement:
    """The requirement that this text states (none when it is empty); BadExpression if it cannot be reduced."""
    if not text.strip():
        return Requirement(None, text, frozenset())
    parser = _Parser(text, compiler, place)
    node = push(parser.parse(), False)
    try:
        check_size(node)
    except BadExpression as error:
        raise BadExpression(text, error.reason) from None
    requirement = Requirement(node, text, frozenset(parser.uses))
    if not requirement.uses:
        requirement.reduce(None, False)
    return requirement


def compile_(text: str, resources: Resources) -> Disjunction:
    """The OR of ANDs of a requirement whose constants depend on no job; ``gpus`` imply HasGPU, nothing stated a CPU."""
    requirement = compile_requirement(text, Compiler({}, ()), Place("", "requirements"))
    gpus = resources.gpus
    return requirement.reduce(None, not isinstance(gpus, str) and gpus > 0)


def fold(clauses: Disjunction, attributes: Mapping[str, Any]) -> Disjunction:
    """What is left to ask once ``attributes`` are known: ``()`` can never match there, ``((),)`` always does."""
    return simplest(
        tuple(
            tuple(term for term in clause if term[0] not in attributes)
            for clause in clauses
            if all(compare(((term,),), attributes) for term in clause if term[0] in attributes)
        )
    )
