"""What IceProd's own parsers take apart, and compute (hides their grammar)."""

from __future__ import annotations

import ast
import re

__all__ = ["arithmetic", "closing", "is_number", "parses"]


def closing(text: str, at: int, pair: str) -> int | None:
    depth = 1
    while at < len(text):
        depth += (text[at] == pair[0]) - (text[at] == pair[1])
        if not depth:
            return at
        at += 1
    return None


def is_number(text: str, whole: bool) -> bool:
    try:
        int(text) if whole else float(text)
    except ValueError:
        return False
    return not whole or text.strip().isascii()


def arithmetic(text: str) -> bool:
    """Whether IceProd 2 and 3 compute this: numbers and + - * / // % ** only."""
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    allowed = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Not, ast.UAdd,
               ast.USub, ast.BitXor, ast.Invert)  # fmt: skip
    if not isinstance(statement, ast.Expr):
        return False
    for node in ast.walk(statement.value):
        if not isinstance(node, allowed) or (isinstance(node, ast.Constant) and type(node.value) not in (int, float)):
            return False
    return True


def parses(text: str) -> bool:
    """Whether the parser of IceProd 2 and 3 takes this text apart; it leaves the others as they are.

    ``$`` that begins no call is possible at the beginning only; brackets are indices behind a call, or text that is balanced.
    """
    last, word, nested = "", False, 0
    stack: list[int] = []
    opened: list[str] = []
    for sign in _scanned(text):
        if sign == "$":
            if last:
                stack.append(nested)
                nested, word = 0, False
            last = "$"
        elif sign == "(":
            if last in ("$", "name"):
                last, word = "(", False
                opened.append("(")
            else:
                last, word, nested = "word", True, nested + 1
        elif sign == "[":
            if last != "word":
                return False
            if word:
                nested += 1
            else:
                last = "["
                opened.append("[")
        elif sign in ")]":
            begun = {")": "(", "]": "["}[sign]
            if last == "word" and nested > 0:
                nested, word = nested - 1, True
                continue
            if last not in ("word", begun) or not opened or opened.pop() != begun:
                return False
            if last == "word":
                nested = stack.pop() if stack else 0
            last, word = "word", False
        elif last == "$":
            last = "name"
        else:
            last, word = "word", True
    return not nested and not stack


def _scanned(text: str) -> list[str]:
    """``$ ( ) [ ]``, and ``w`` for what is between them."""
    plain = re.sub(r"\\.", "w", text, flags=re.DOTALL)
    return [one if one in "$()[]" else "w" for one in re.findall(r"[$()\[\]]|[^$()\[\]]+", plain)]
