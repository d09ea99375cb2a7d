"""Whether a node has what a need asks for: comparisons in disjunctive form, and nothing else (no expression is
evaluated here).
"""

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["compare"]

_OPERATORS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def compare(any: "Sequence[Sequence[Sequence[Any]]]", attrs: "Mapping[str, Any]") -> bool:
    """Whether one of the clauses has all its comparisons ``[attribute, operator, value]`` true of these attributes.

    A comparison with an unknown attribute is false, but for ``[X, "!=", true]``, which is how ``not $attr(X)`` is
    written. Booleans, numbers and texts are never equal to, or in order with, one another; ``!=`` is true between them.
    """
    for clause in any:
        for name, symbol, value in clause:
            if not _holds(attrs.get(name), symbol, value):
                break
        else:
            return True
    return False


def _kind(value: "Any") -> int:
    if isinstance(value, bool):
        return 0
    return 1 if isinstance(value, (int, float)) else 2 if isinstance(value, str) else 3


def _holds(known: "Any", symbol: str, value: "Any") -> bool:
    if known is None:
        return symbol == "!=" and value is True
    if _kind(known) != _kind(value):
        return symbol == "!="
    try:
        return bool(_OPERATORS[symbol](known, value))
    except (KeyError, TypeError):
        return False
