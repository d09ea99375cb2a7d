"""What ``$eval`` can compute: whitelisted syntax, compiled to closures with bounded results (hides Python's parser)."""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CONSTANTS", "FUNCTIONS", "CannotCompute", "compile_arithmetic", "number_in"]

Closure = Callable[[Any], Any]

MAX_TEXT = 2_000
"""Longest expression, characters."""
MAX_NODES = 300
MAX_DEPTH = 40
MAX_BITS = 4096
"""Largest whole number, bits."""
MAX_CHARACTERS = 10_000
"""Longest text that an expression may handle."""
SMALL = 1 << 1024

NUMBER = re.compile(r"[+-]?(?:\d+|(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d{1,4})?)\Z", re.ASCII)


class CannotCompute(ValueError):
    """The expression is not allowed, too large, or has no value; the text says which."""


def number_in(value: Any) -> Any:
    """A text that reads as a number is that number; everything else is itself."""
    if type(value) is str and len(value) <= 400 and NUMBER.match(value):
        try:
            return int(value)
        except ValueError:
            return float(value)
    return value


def _bounded(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        if -SMALL < value < SMALL or value.bit_length() <= MAX_BITS:
            return value
        raise CannotCompute(f"the number is larger than {MAX_BITS} bits")
    if kind is float:
        if math.isfinite(value):
            return value
        raise CannotCompute("the result is not a finite number")
    if kind is bool:
        return value
    if kind is str:
        if len(value) <= MAX_CHARACTERS:
            return value
        raise CannotCompute(f"the text is longer than {MAX_CHARACTERS} characters")
    raise CannotCompute(f"a result of kind {kind.__name__} is not possible")


def _both_numbers(left: Any, right: Any, symbol: str) -> None:
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        text = left if isinstance(left, str) else right
        hint = "; use $sprintf for text" if symbol == "%" else ""
        raise CannotCompute(f"'{symbol}' needs two numbers, and {str(text)[:40]!r} is none{hint}")


def _power(left: Any, right: Any) -> Any:
    _both_numbers(left, right, "**")
    if isinstance(left, int) and isinstance(right, int) and right > 0 and abs(left).bit_length() * right > 2 * MAX_BITS:
        raise CannotCompute(f"the power is larger than {MAX_BITS} bits")
    return left**right


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    _both_numbers(left, right, "+")
    return left + right


def _numeric(symbol: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(left: Any, right: Any) -> Any:
        if type(left) is not int or type(right) is not int:
            _both_numbers(left, right, symbol)
        return function(left, right)

    return compute


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _add,
    ast.Sub: _numeric("-", operator.sub),
    ast.Mult: _numeric("*", operator.mul),
    ast.Div: _numeric("/", operator.truediv),
    ast.FloorDiv: _numeric("//", operator.floordiv),
    ast.Mod: _numeric("%", operator.mod),
    ast.Pow: _power,
}

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _round(value: Any, digits: Any = 0) -> Any:
    if not isinstance(digits, int) or abs(digits) > 300:
        raise CannotCompute("round takes between -300 and 300 digits")
    return round(value, digits) if digits else round(value)


def _length(value: Any) -> int:
    return len(value if isinstance(value, str) else str(value))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "round": _round, "int": int, "float": float, "str": str, "bool": bool, "len": _length,
    "floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log10": math.log10,
    "log2": math.log2, "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos,
    "atan": math.atan, "atan2": math.atan2, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "hypot": math.hypot, "degrees": math.degrees, "radians": math.radians,
}  # fmt: skip
"""All functions that exist in ``$eval``."""

CONSTANTS: dict[str, Any] = {"pi": math.pi, "e": math.e, "true": True, "false": False}
"""All names that exist in ``$eval``, besides functions, ``True`` and ``False``."""


def compile_arithmetic(text: str, operands: Mapping[str, Closure]) -> Closure:
    """A function of one scope that computes ``text``; names in ``operands`` are asked of that scope.

    Raises CannotCompute when something else than arithmetic, comparison, boolean, conditional and FUNCTIONS is used, or when
    the expression is too large; the function raises it when there is no value. Neither takes long nor much memory.
    """
    if len(text) > MAX_TEXT:
        raise CannotCompute(f"the expression is longer than {MAX_TEXT} characters")
    if "\0" in text:
        raise CannotCompute("the expression holds a NUL character")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise CannotCompute(f"this is no expression ({error.msg})") from None
    except (ValueError, RecursionError, MemoryError):
        raise CannotCompute("the expression is nested too deeply") from None
    _check_size(tree)
    run = _compile(tree.body, operands)

    def compute(scope: Any) -> Any:
        try:
            return run(scope)
        except CannotCompute:
            raise
        except ZeroDivisionError:
            raise CannotCompute("it divides by zero") from None
        except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise CannotCompute(str(error)) from None

    return compute


def _check_size(tree: ast.AST) -> None:
    count = 0
    level: list[ast.AST] = [tree]
    for _depth in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        count += len(level)
        if count > MAX_NODES:
            raise CannotCompute(f"the expression has more than {MAX_NODES} parts")
        if not level:
            return
    raise CannotCompute(f"the expression is nested deeper than {MAX_DEPTH}")


def _compile(node: ast.expr, operands: Mapping[str, Closure]) -> Closure:
    maker = _MAKERS.get(type(node))
    if maker is None:
        raise CannotCompute(f"{_describe(node)} is not possible in $eval")
    return maker(node, operands)


def _describe(node: ast.expr) -> str:
    names = {
        ast.Attribute: "a dot after a value", ast.Subscript: "an index", ast.Lambda: "lambda", ast.ListComp: "a list",
        ast.List: "a list", ast.Dict: "a dictionary", ast.JoinedStr: "an f-string", ast.NamedExpr: "':='", ast.Starred: "'*'",
        ast.Await: "await", ast.Yield: "yield", ast.GeneratorExp: "a loop", ast.Set: "a set", ast.Tuple: "a tuple",
    }  # fmt: skip
    return names.get(type(node), type(node).__name__)


def _constant(node: Any, _operands: Mapping[str, Closure]) -> Closure:
    value = _bounded(node.value)
    return lambda scope: value


def _name(node: Any, operands: Mapping[str, Closure]) -> Closure:
    if node.id in operands:
        ask = operands[node.id]
        return lambda scope: _bounded(number_in(ask(scope)))
    if node.id in CONSTANTS:
        value = CONSTANTS[node.id]
        return lambda scope: value
    if node.id in FUNCTIONS:
        raise CannotCompute(f"{node.id} is a function: {node.id}(...)")
    raise CannotCompute(
        f"the name {node.id!r} does not exist; variables are $args(...) and $steering(...), text has quotes"
    )


def _binary(node: Any, operands: Mapping[str, Closure]) -> Closure:
    function = _BINARY.get(type(node.op))
    if function is None:
        raise CannotCompute(f"the operator {type(node.op).__name__} is not possible in $eval")
    left, right = _compile(node.left, operands), _compile(node.right, operands)
    return lambda scope: _bounded(function(left(scope), right(scope)))


def _unary(node: Any, operands: Mapping[str, Closure]) -> Closure:
    inner = _compile(node.operand, operands)
    if isinstance(node.op, ast.Not):
        return lambda scope: not inner(scope)
    if isinstance(node.op, ast.USub):
        return lambda scope: -inner(scope)
    if isinstance(node.op, ast.UAdd):
        return lambda scope: +inner(scope)
    raise CannotCompute("the operator '~' is not possible in $eval")


def _boolean(node: Any, operands: Mapping[str, Closure]) -> Closure:
    parts = [_compile(value, operands) for value in node.values]
    stop = isinstance(node.op, ast.Or)

    def compute(scope: Any) -> Any:
        value: Any = not stop
        for part in parts:
            value = part(scope)
            if bool(value) is stop:
                return value
        return value

    return compute


def _comparison(node: Any, operands: Mapping[str, Closure]) -> Closure:
    first = _compile(node.left, operands)
    pairs: list[tuple[Callable[[Any, Any], Any], Closure]] = []
    for op, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(op, ast.In | ast.NotIn):
            pairs.append((_membership(op), _members(right, operands)))
        elif type(op) in _COMPARE:
            pairs.append((_COMPARE[type(op)], _compile(right, operands)))
        else:
            raise CannotCompute("'is' is not possible in $eval; use ==")

    def compute(scope: Any) -> bool:
        left = first(scope)
        for function, ask in pairs:
            right = ask(scope)
            if not function(left, right):
                return False
            left = right
        return True

    return compute


def _membership(op: ast.cmpop) -> Callable[[Any, Any], bool]:
    wanted = isinstance(op, ast.In)
    return lambda left, right: (left in right) is wanted


def _members(node: ast.expr, operands: Mapping[str, Closure]) -> Closure:
    if not isinstance(node, ast.Tuple | ast.List):
        return _compile(node, operands)
    parts = [_compile(part, operands) for part in node.elts]
    return lambda scope: [part(scope) for part in parts]


def _conditional(node: Any, operands: Mapping[str, Closure]) -> Closure:
    test, then, other = (_compile(part, operands) for part in (node.test, node.body, node.orelse))
    return lambda scope: then(scope) if test(scope) else other(scope)


def _call(node: Any, operands: Mapping[str, Closure]) -> Closure:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        name = node.func.id if isinstance(node.func, ast.Name) else _describe(node.func)
        raise CannotCompute(f"the function {name!r} does not exist; there are {', '.join(sorted(FUNCTIONS))}")
    if node.keywords:
        raise CannotCompute("arguments with names are not possible in $eval")
    function = FUNCTIONS[node.func.id]
    parts = [_compile(part, operands) for part in node.args]
    return lambda scope: _bounded(function(*[part(scope) for part in parts]))


_MAKERS: dict[type[ast.expr], Callable[[Any, Mapping[str, Closure]], Closure]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.IfExp: _conditional,
    ast.Call: _call,
}
