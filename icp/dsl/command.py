"""A module's command as the argv of a step: values as shell words, arguments and marks (hides how a value is quoted)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.shell import Insert, lex_all
from icp.dsl.syntax import BadExpression, together
from icp.dsl.values import Marked, Node, show
from icp.model.definition import Module

__all__ = ["compile_command", "compile_module", "compile_value", "is_file", "word"]

SHELL = ("/bin/sh", "-e", "-c")
MAX_ARGUMENT = 131_072
"""Bytes; MAX_ARG_STRLEN of Linux, execve(2)."""
_BARE = re.compile(r"[0-9][A-Za-z0-9_.:,/+@%-]*\Z")
_BARE_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.:,/+@%-]*\Z")
_RESERVED = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "do",
        "done",
        "case",
        "esac",
        "while",
        "until",
        "for",
        "in",
        "function",
        "select",
        "time",
        "coproc",
    ]
)


def compile_module(module: Module, compiler: Compiler, owner: str, field: str) -> Compiled:
    """A module: ``run(scope)`` gives the argv of a step, or, for a Python module, what is to run (docs/spool.md)."""
    if module.python is not None:
        return _compile_python(module, compiler, owner, field)
    if isinstance(module.command, str):
        command = compile_command(module.command, compiler, Place(owner, f"{field}.command"))
        run = command.run
        return Compiled(module.command, lambda scope: [*SHELL, _argument(run(scope), command.text)], command.uses)
    parts: list[str | Callable[[Any], Any]] = []
    uses: frozenset[tuple[str, str]] = frozenset()
    problems: list[BadExpression] = []
    for number, text in enumerate(module.command):
        try:
            compiled = compiler.compile(text, Place(owner, f"{field}.command.{number}"))
            uses |= compiled.uses
            parts.append(_argument(compiled.run(None), text) if compiled.constant else _element(compiled))
        except BadExpression as error:
            problems.extend(error.all)
    if problems:
        raise together(problems)
    return Compiled(
        " ".join(module.command), lambda scope: [part(scope) if callable(part) else part for part in parts], uses
    )


def _compile_python(module: Module, compiler: Compiler, owner: str, field: str) -> Compiled:
    """``run(scope)`` gives ``{"file" or "module", "class", "params"}``, and as ``marks`` what of the params only the
    node knows: [key path, element].
    """
    params = compile_value(dict(module.params), compiler, owner, f"{field}.params")
    head: dict[str, Any] = {"file" if is_file(module.python or "") else "module": module.python, "class": module.cls}
    if module.origin is not None and module.origin.folder:
        head["root"] = module.origin.folder

    def run(scope: Any) -> dict[str, Any]:
        marks: list[list[Any]] = []
        found = _settled(params.run(scope), [], marks)
        return {**head, "params": found, "marks": marks} if marks else {**head, "params": found}

    return Compiled(module.python or "", run, params.uses, params.cost)


def is_file(python: str) -> bool:
    """Whether ``python = "..."`` is a file, and not the name of a predefined module."""
    return python.endswith(".py") or "/" in python


def compile_value(value: Any, compiler: Compiler, owner: str, field: str) -> Compiled:
    """Lists and tables with expressions in them; all that is wrong at once."""
    if isinstance(value, str):
        return compiler.compile(value, Place(owner, field))
    if not isinstance(value, dict | list | tuple):
        return Compiled("", lambda scope: value, frozenset(), 0)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    members: list[Compiled] = []
    problems: list[BadExpression] = []
    for key in keys:
        try:
            members.append(compile_value(value[key], compiler, owner, f"{field}.{key}"))
        except BadExpression as error:
            problems.extend(error.all)
    if problems:
        raise together(problems)
    uses = frozenset(use for member in members for use in member.uses)
    cost = 1 + sum(member.cost for member in members)
    if not isinstance(value, dict):
        return Compiled("", lambda scope: [member.run(scope) for member in members], uses, cost)
    pairs = list(zip(keys, members, strict=True))
    return Compiled("", lambda scope: {key: member.run(scope) for key, member in pairs}, uses, cost)


def _settled(value: Any, path: list[Any], marks: list[list[Any]]) -> Any:
    """The value as JSON has it; what only the node knows is noted, and None stands in its place."""
    if isinstance(value, dict):
        return {key: _settled(member, [*path, key], marks) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(member, [*path, index], marks) for index, member in enumerate(value)]
    if isinstance(value, Node | Marked):
        marks.append([path, _argument(value, "")])
        return None
    return value


def _element(compiled: Compiled) -> Callable[[Any], Any]:
    run, text = compiled.run, compiled.text
    return lambda scope: _argument(run(scope), text)


def _argument(value: Any, expression: str) -> Any:
    """One element of an argv: text, ``{"node": "tmp"}``, or a list of both."""
    if isinstance(value, Node):
        return {"node": value.name}
    if isinstance(value, Marked):
        return [{"node": part.name} if isinstance(part, Node) else part for part in value.parts]
    text = show(value, expression)
    if "\0" in text:
        raise BadExpression(expression, "the value holds a NUL character, which no argument can hold")
    if len(text) > MAX_ARGUMENT // 4 and len(text.encode()) >= MAX_ARGUMENT:
        raise BadExpression(
            expression[:60], f"an argument of {MAX_ARGUMENT} bytes or more cannot be started; use a file"
        )
    return text


def word(value: Any, insert: Insert) -> str:
    """The value as one shell word, whatever is in it (a list that stands alone: a word for each member); what only the node knows becomes its
    environment variable."""
    if isinstance(value, list) and insert.alone:
        words = " ".join([word(one, insert) for one in value])
        if len(words) * 4 > MAX_ARGUMENT and len(words.encode()) >= MAX_ARGUMENT // 2:
            raise BadExpression(insert.call.text[:60], f"{len(value)} names are too much for a command; they stand in the file inputs.list, a line each")
        return words
    if isinstance(value, Node):
        return f'"$ICP_{value.name.upper()}"'
    if isinstance(value, Marked):
        apart = Insert(insert.call, False, False)
        return "".join(word(part, apart) for part in value.parts)
    expression = insert.call.text
    text = value if type(value) is str else show(value, expression)
    if insert.number and _BARE.match(text):
        return text
    if insert.word and _BARE_WORD.match(text) and text not in _RESERVED:
        return text
    if "\0" in text:
        raise BadExpression(expression, "the value holds a NUL character, which no argument can hold")
    return "'" + text.replace("'", "'\"'\"'") + "'"


def compile_command(text: str, compiler: Compiler, place: Place) -> Compiled:
    """A string command: ``run(scope)`` gives the text for ``/bin/sh -e -c``."""
    pieces: list[str | Callable[[Any], str]] = []
    uses: frozenset[tuple[str, str]] = frozenset()
    found, problems = lex_all(text)
    for piece in found:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        try:
            compiled = compiler.call(piece.call, place)
        except BadExpression as error:
            problems.extend(error.all)
            continue
        uses |= compiled.uses
        pieces.append(_inserter(compiled, piece))
    if problems:
        raise together(problems)
    if not uses:
        fixed = "".join(piece if isinstance(piece, str) else piece(None) for piece in pieces)
        return Compiled(text, lambda scope: fixed, uses)
    return Compiled(
        text, lambda scope: "".join([piece if isinstance(piece, str) else piece(scope) for piece in pieces]), uses
    )


def _inserter(compiled: Compiled, insert: Insert) -> Callable[[Any], str]:
    run = compiled.run
    if compiled.constant:
        fixed = word(run(None), insert)
        return lambda scope: fixed
    return lambda scope: word(run(scope), insert)
