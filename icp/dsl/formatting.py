"""``$sprintf``: C's formatting with bounded widths (hides Python's ``%``)."""

from __future__ import annotations

import re
from typing import Any

from icp.dsl.arithmetic import number_in
from icp.dsl.syntax import BadExpression
from icp.dsl.values import show

__all__ = ["sprintf"]

_CONVERSION = re.compile(r"%(?:%|([#0 +-]*)(\d*)(?:\.(\d*))?([a-zA-Z]))")
_WIDEST = 200


def sprintf(form: str, values: list[Any], expression: str) -> str:
    """The text of ``form`` with ``values`` in place of its conversions: d i u o x X e E f F g G s."""
    pending = list(values)

    def convert(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter is None:
            return "%"
        if letter not in "diuoxXeEfFgGs":
            raise BadExpression(expression, f"%{letter} is no conversion; there are d i u o x X e E f F g G s")
        if int(width[:4] or 0) > _WIDEST or int((precision or "")[:4] or 0) > _WIDEST:
            raise BadExpression(expression, f"a width or precision above {_WIDEST}")
        if not pending:
            raise BadExpression(expression, "there are more conversions than values")
        value = pending.pop(0)
        try:
            if letter == "s":
                converted: Any = show(value, expression)
            else:
                converted = number_in(value)
                if isinstance(converted, str):
                    raise BadExpression(expression, f"%{letter} needs a number, and {converted[:40]!r} is none")
                if letter in "diuoxX" and isinstance(converted, float):
                    converted = int(converted)
            return ("%" + flags + width + ("." + precision if precision is not None else "") + letter) % (converted,)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, BadExpression):
                raise
            raise BadExpression(expression, str(error)) from None

    if "%" in _CONVERSION.sub("", form):
        raise BadExpression(expression, f"{form[:40]!r} holds a '%' that is no conversion; '%%' is a percent sign")
    text = _CONVERSION.sub(convert, form)
    if pending:
        raise BadExpression(expression, "there are more values than conversions")
    return text
