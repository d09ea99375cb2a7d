"""What the Python modules in a file declare, read from its syntax tree and never run (hides Python's syntax)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from icp.pilot.module import TYPES

__all__ = ["Class", "Declared", "NotPython", "imports", "read"]

HOME = "icp.pilot.module"
_DEEP = 10
"""Files that base classes may come from, one after the other."""


class NotPython(ValueError):
    """The text is no Python; the text says where."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One parameter. No ``types``: anything; ``default`` as it is written, for people."""

    name: str
    types: tuple[str, ...]
    required: bool
    default: str
    help: str
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Class:
    """A class of a file. ``module``: it derives from Module, as far as can be seen; ``open``: it may declare more than can be seen."""

    name: str
    help: str
    parameters: dict[str, Declared]
    module: bool
    open: bool


def read(text: str, find: Callable[[str], str | None] = lambda name: None) -> dict[str, Class]:
    """The classes of a file by name. ``find(module)``: the text of another module that lies beside it. NotPython."""
    return _File(text, find, _DEEP).classes


def imports(text: str) -> list[str]:
    """The names of all modules that a file imports, dotted; none where it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    found += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return list(dict.fromkeys(found))


class _File:
    def __init__(self, text: str, find: Callable[[str], str | None], deep: int) -> None:
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise NotPython(f"line {error.lineno}: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise NotPython(str(error) or "it is nested too deeply") from None
        self.find, self.deep = find, deep
        self.known: dict[str, str] = {}
        """What an imported name means: its dotted name."""
        self.classes: dict[str, Class] = {}
        for node in _statements(tree.body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.known[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self.known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = self._class(node)

    def _dotted(self, node: ast.expr) -> str:
        """The dotted name that an expression means, through imports; empty where it is none."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (base := self._dotted(node.value)):
            return f"{base}.{node.attr}"
        return ""

    def _class(self, node: ast.ClassDef) -> Class:
        found: dict[str, Declared] = {}
        module, unseen = False, bool(node.decorator_list or node.keywords)
        for base in reversed(node.bases):
            known = self._base(base)
            if known is None:
                unseen = True
            else:
                found.update(known.parameters)
                module, unseen = module or known.module, unseen or known.open
        for statement in _statements(node.body):
            names, value = _assigned(statement)
            for name in names:
                found.pop(name, None)
                if isinstance(value, ast.Call) and self._dotted(value.func) == f"{HOME}.Parameter":
                    found[name] = _declared(name, value)
        return Class(node.name, ast.get_docstring(node) or "", found, module, unseen)

    def _base(self, base: ast.expr) -> Class | None:
        """A class that another one is made from; None where it cannot be seen."""
        name = self._dotted(base)
        if name == f"{HOME}.Module":
            return Class("Module", "", {}, True, False)
        if name == "object":
            return Class("object", "", {}, False, False)
        if name in self.classes:
            return self.classes[name]
        home, _, cls = name.rpartition(".")
        text = self.find(home) if home and self.deep else None
        if text is None:
            return None
        try:
            return _File(text, self.find, self.deep - 1).classes.get(cls)
        except NotPython:
            return None


def _statements(body: Iterable[ast.stmt]) -> Iterable[ast.stmt]:
    """The statements that are run when a file or a class is, those in if, try and with too."""
    for node in body:
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, part, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _assigned(node: ast.stmt) -> tuple[list[str], ast.expr | None]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)], node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return [node.target.id], node.value
    return [], None


def _declared(name: str, call: ast.Call) -> Declared:
    """``Parameter(type, default, help, choices)``; what is no literal is taken for anything."""
    given = dict(zip(("type", "default", "help", "choices"), call.args, strict=False))
    given.update((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg)
    stars = any(isinstance(one, ast.Starred) for one in call.args) or any(not one.arg for one in call.keywords)
    kinds = given.get("type")
    members = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds] if kinds is not None else []
    types = tuple(one.id for one in members if isinstance(one, ast.Name) and one.id in TYPES)
    default = given.get("default")
    text = _literal(given.get("help"))
    choices = _literal(given.get("choices"))
    return Declared(
        name,
        types if len(types) == len(members) else (),
        default is None and not stars,
        "" if default is None else ast.unparse(default),
        text if isinstance(text, str) else "",
        tuple(choices) if isinstance(choices, list | tuple | set) else None,
    )


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
