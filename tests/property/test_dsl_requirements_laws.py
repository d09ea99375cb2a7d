"""What requirements reduce to is true of the same attributes as the requirement itself, also of unknown ones."""

from __future__ import annotations

import operator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from icp.dsl.requirements import compile_, fold
from icp.dsl.syntax import BadExpression
from icp.model.definition import Resources
from icp.pilot.needs import compare

NAMES = "ABCD"
CONSTANTS = [0, 1, 2.5, -3, "x", "el9", True, False]
COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

# a tree is ("attr", name) | ("test", name, op, value) | ("const", bool) | ("not", tree) | ("and" | "or", tree, tree)
constants = st.sampled_from(CONSTANTS)
tests = st.builds(
    lambda name, op, value: ("test", name, op, value), st.sampled_from(NAMES), st.sampled_from(list(COMPARE)), constants
).filter(lambda t: t[2] in ("==", "!=") or (isinstance(t[3], int | float) and not isinstance(t[3], bool)))
trees = st.recursive(
    st.one_of(
        tests,
        st.builds(lambda name: ("attr", name), st.sampled_from(NAMES)),
        st.builds(lambda b: ("const", b), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.builds(lambda part: ("not", part), inner),
        st.builds(lambda op, left, right: (op, left, right), st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=8,
)
attributes = st.dictionaries(st.sampled_from(NAMES), constants)


def kind(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def truth(tree: Any, known: dict[str, Any], negate: bool) -> bool:
    """The rule as the reference states it, evaluated on the tree."""
    if tree[0] == "const":
        return tree[1] is not negate
    if tree[0] == "not":
        return truth(tree[1], known, not negate)
    if tree[0] in ("and", "or"):
        every = (tree[0] == "and") is not negate
        return (all if every else any)(truth(part, known, negate) for part in tree[1:])
    if tree[0] == "attr":
        if tree[1] not in known:
            return negate
        return (known[tree[1]] is True) is not negate
    _, name, op, value = tree
    if name not in known:
        return False
    op = NEGATED[op] if negate else op
    found = known[name]
    if isinstance(value, bool):
        # true and false have no third: != true is == false
        return found is (value if op == "==" else not value)
    if kind(found) != kind(value):
        return op == "!="
    return bool(COMPARE[op](found, value))


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def written(tree: Any, draw: Any) -> str:
    if tree[0] == "const":
        return draw(st.sampled_from([str(tree[1]), str(tree[1]).lower(), "1 < 2" if tree[1] else "2 == 3"]))
    if tree[0] == "attr":
        return f"$attr({tree[1]})"
    if tree[0] == "test":
        _, name, op, value = tree
        if draw(st.booleans()):
            return f"{shown(value)} {TURNED[op]} $attr({name})"
        return f"$attr({name}) {op} {shown(value)}"
    if tree[0] == "not":
        return f"{draw(st.sampled_from(['not ', '!']))}({written(tree[1], draw)})"
    word = draw(st.sampled_from([" and ", "&&"] if tree[0] == "and" else [" or ", " || "]))
    return f"({written(tree[1], draw)}){word}({written(tree[2], draw)})"


@settings(deadline=None, max_examples=400)
@given(st.data(), trees, attributes)
def test_reducing_keeps_the_meaning(data: Any, tree: Any, known: dict[str, Any]) -> None:
    text = written(tree, data.draw)
    try:
        clauses = compile_(text, Resources())
    except BadExpression as error:
        assert "alternatives" in error.reason
        return
    assert compare(clauses, known) is truth(tree, known, False), (text, clauses)


@settings(deadline=None, max_examples=200)
@given(st.data(), trees, attributes, attributes)
def test_folding_in_what_a_site_is_known_to_have_keeps_the_meaning(
    data: Any, tree: Any, configured: Any, found: Any
) -> None:
    try:
        clauses = compile_(written(tree, data.draw), Resources(gpus=1))
    except BadExpression:
        return
    folded = fold(clauses, configured)
    assert compare(folded, found) is compare(clauses, {**found, **configured}) or any(
        term[0] in configured for clause in folded for term in clause
    )
    assert not any(term[0] in configured for clause in folded for term in clause)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="$attr()AB<>=!&|andortu 01'\".-+ef", max_size=80))
def test_any_text_reduces_or_has_a_reason(text: str) -> None:
    try:
        clauses = compile_(text, Resources())
    except BadExpression as error:
        assert error.reason
    else:
        compare(clauses, {})
