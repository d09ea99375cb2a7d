"""What a requirement says as an OR of ANDs of comparisons (hides negation, and what is left out because another alternative asks less)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from icp.dsl.arithmetic import number_in
from icp.dsl.expressions import Compiled
from icp.dsl.syntax import BadExpression
from icp.model.need import Comparison, Disjunction

__all__ = [
    "MAX_CLAUSES", "TRUE", "Attribute", "Constant", "Many", "Not", "Test", "Truth", "check_size", "fixed", "proposition", "push", "reduce", "simplest",
    "term", "unique",
]  # fmt: skip

MAX_CLAUSES = 64
"""Alternatives that a requirement may reduce to."""

_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Attribute:
    """``$attr(name)``, not compared yet."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that does not depend on the site; of each job, perhaps."""

    value: Compiled


@dataclass(frozen=True, slots=True)
class Test:
    """An attribute compared with a constant; ``op`` "unless" is ``not $attr(X)``."""

    name: str
    op: str
    value: Compiled


@dataclass(frozen=True, slots=True)
class Truth:
    """Something that is true or false without a site."""

    run: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Many:
    """All of (``every``) or one of the parts."""

    every: bool
    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Any


def fixed(value: Any) -> Compiled:
    return Compiled(repr(value), lambda scope: value, frozenset())


def proposition(node: Any) -> Any:
    """A bare attribute means that it is true, a bare constant that it is."""
    if isinstance(node, Attribute):
        return Test(node.name, "==", TRUE)
    if isinstance(node, Constant):
        run = node.value.run
        return Truth(lambda scope: bool(number_in(run(scope))))
    return node


TRUE = fixed(True)


def term(name: str, op: str, value: Any) -> Comparison:
    """The comparison that an agent makes; BadExpression if there is none such."""
    if op == "unless":
        return (name, "!=", True)
    value = number_in(value)
    if isinstance(value, bool):
        if op not in ("==", "!="):
            raise BadExpression(
                f"$attr({name}) {op} {str(value).lower()}", "true and false are compared by == and != only"
            )
        return (name, "==", value is (op == "=="))
    if isinstance(value, str) and op not in ("==", "!="):
        raise BadExpression(f"$attr({name}) {op} {value!r}", "only numbers have an order; compare text by == and !=")
    if not isinstance(value, str | int | float):
        raise BadExpression(f"$attr({name}) {op} ...", "a list cannot be compared")
    return (name, op, value)


def push(node: Any, negate: bool) -> Any:
    """The same with negation at the leaves only."""
    if isinstance(node, Not):
        return push(node.part, not negate)
    if isinstance(node, Many):
        return Many(node.every is not negate, tuple(push(part, negate) for part in node.parts))
    if not negate:
        return node
    if isinstance(node, Test):
        if node.value is TRUE and node.op == "==":
            return Test(node.name, "unless", TRUE)
        return Test(node.name, _NEGATED[node.op], node.value)
    run = node.run
    return Truth(lambda scope: not run(scope))


def check_size(node: Any) -> int:
    if not isinstance(node, Many):
        return 1
    total = 1 if node.every else 0
    for part in node.parts:
        total = total * check_size(part) if node.every else total + check_size(part)
        if total > MAX_CLAUSES:
            raise BadExpression("", f"it reduces to more than {MAX_CLAUSES} alternatives; state less at once")
    return total


def reduce(node: Any, scope: Any) -> Disjunction:
    if isinstance(node, Truth):
        return ((),) if node.run(scope) else ()
    if isinstance(node, Test):
        return ((term(node.name, node.op, node.value.run(scope)),),)
    if not node.every:
        return tuple(clause for part in node.parts for clause in reduce(part, scope))
    clauses: Disjunction = ((),)
    for part in node.parts:
        more = reduce(part, scope)
        clauses = tuple(unique(left + right) for left in clauses for right in more)
    return clauses


def _key(term: Comparison) -> tuple[Any, ...]:
    # one and true are equal in Python, not here
    return (*term, type(term[2]))


def unique(terms: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    return tuple({_key(term): term for term in terms}.values())


def simplest(clauses: Disjunction) -> Disjunction:
    """Without alternatives that ask more than another one does."""
    keys = [frozenset(map(_key, clause)) for clause in clauses]
    return tuple(
        clause
        for i, clause in enumerate(clauses)
        if not any(other < keys[i] or (other == keys[i] and j < i) for j, other in enumerate(keys))
    )
