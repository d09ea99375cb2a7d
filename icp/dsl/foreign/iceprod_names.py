"""What names mean in an IceProd configuration, and its values as ours (hides scopes, options and how IceProd reads a text)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.foreign.iceprod_words import Expr, Piece, Translator, as_word, joined, reads_as, written
from icp.dsl.foreign.toml_text import Comment

__all__ = ["OPTIONS", "Note", "Scope", "Variable", "Variables"]

OPTIONS = {
    "resource_url": "http://prod-exe.icecube.wisc.edu/",
    "data_url": "gsiftp://gridftp.icecube.wisc.edu/",
    "svn_repository": "http://code.icecube.wisc.edu/svn/",
    "site_temp": "gsiftp://gridftp-scratch.icecube.wisc.edu/local/simprod/",
    "dataset_temp": "$(site_temp)/$(dataset)",
    "job_temp": "$(site_temp)/$(dataset)/$(job)",
}
"""What IceProd 3 gives these options where a configuration does not."""

_JOB = {
    "job": Expr("$args(job)", "number"),
    "jobs_submitted": Expr("$args(jobs)", "number"),
    "iter": Expr("$args(iter)", "number"),
    "task": Expr("$args(task)", "text"),
}
_ICEPROD_1 = {
    "procnum": _JOB["job"], "proc": _JOB["job"], "nproc": _JOB["jobs_submitted"], "jobs": _JOB["jobs_submitted"], "iteration": _JOB["iter"],
    "run": Expr("$args(run)", "unknown"), "subrun": Expr("$args(subrun)", "unknown"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person must look at. ``word`` is CHECK (converted, and may differ) or NOT CONVERTED."""

    word: str
    place: str
    about: str

    def __str__(self) -> str:
        return f"{self.word}: {self.about}"


@dataclass(slots=True)
class Variable:
    """A parameter or option of IceProd as a variable of ``[steering]``."""

    name: str
    raw: Any
    scope: Scope
    origin: str
    open: bool = False
    known: Expr | None = None


@dataclass(slots=True)
class Variables:
    """All of them, and what is known of the whole configuration. ``strict``: IceProd 2 and 3."""

    strict: bool
    options: Mapping[str, Any]
    system: Mapping[str, Any]
    metadata: Mapping[str, Any]
    about: Mapping[str, Any]
    dataset: int | None
    notes: list[Note] = field(default_factory=list)
    entries: dict[str, Variable] = field(default_factory=dict)
    _options: dict[str, Variable] = field(default_factory=dict)

    def add(self, wanted: str, raw: Any, scope: Scope, origin: str) -> Variable:
        """A new one, under a name that nothing else has."""
        name = safe(wanted)
        base, number = name, 2
        while name in self.entries:
            name, number = f"{base}_{number}", number + 1
        self.entries[name] = found = Variable(name, raw, scope, origin)
        return found

    def option(self, name: str, scope: Scope) -> Expr | None:
        """``$args(name)``, which is ``$options(name)`` too."""
        if name in _JOB:
            return _JOB[name]
        if not self.strict and name in _ICEPROD_1:
            return _ICEPROD_1[name]
        if name not in self._options:
            raw = self.options.get(name, OPTIONS.get(name) if self.strict else None)
            if name == "dataset":
                raw = self.dataset if self.dataset is not None else self.options.get("dataset", 0)
            if raw is None:
                return None
            self._options[name] = self.add(name, raw, scope.outermost, f"options.{name}")
            if name == "dataset" and self.dataset is None and "dataset" not in self.options:
                self.notes.append(Note("CHECK", "steering.dataset", "the number that IceProd gave the dataset; $args(dataset) is its name here"))
        return self._options[name].scope.of(self._options[name])

    def used_options(self) -> frozenset[str]:
        return frozenset(self._options)

    def table(self) -> dict[str, Any]:
        """``[steering]``, with comments where there is no counterpart."""
        out: dict[str, Any] = {}
        for name, variable in list(self.entries.items()):
            place = f"steering.{name}"
            before = len(self.notes)
            scope = variable.scope.at(place, in_steering=True)
            value = scope.variable(variable.raw)
            for number, note in enumerate(self.notes[before:]):
                out[f"\0{name}{number}"] = Comment(str(note))
            if value is None:
                note = scope.note("NOT CONVERTED", f"{variable.origin} = {json.dumps(variable.raw)}: a variable is a text, a number or a list of them")
                out[f"\0{name}"] = Comment(str(note))
            else:
                if variable.origin.rpartition(".")[2] != name:
                    out[f"\0{name}"] = Comment(f"in IceProd: {variable.origin}")
                out[name] = value
        # what was met late (an option that only a variable asks for) is here as well
        return out if len(self.entries) == sum(1 for one in self.entries if one in out or f"\0{one}" in out) else self.table()


def safe(name: str) -> str:
    """A name as a variable of ours, each the same: ``CORSIKA::seed`` is ``CORSIKA_seed``."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"


def _unquoted(pieces: Sequence[Piece]) -> list[Piece] | None:
    """What IceProd 2 and 3 read of a text in single quotes: the text without them."""
    first, last = pieces[0], pieces[-1]
    if not isinstance(first, str) or not isinstance(last, str) or len(pieces) < 2 or first[0] not in "'\"" or last[-1] not in "'\"":
        return None
    inside = [first[1:], *pieces[1:-1], last[:-1]]
    if first[0] == last[-1] == '"' or any(re.search(r"['\"\\\x00-\x1f]", piece) for piece in inside if isinstance(piece, str)):
        return None
    return [piece for piece in inside if piece]


class Scope:
    """Where a text stands: parameters of the module, the tray, the task and the file, the inner ones first."""

    def __init__(self, variables: Variables, place: str, levels: Sequence[Mapping[str, Variable]], extra: Mapping[str, str] | None = None) -> None:
        self.variables = variables
        self.place = place
        self.levels = tuple(levels)
        self.extra = dict(extra or {})
        self.in_steering = False
        self.translator = Translator(self, variables.strict)

    @property
    def outermost(self) -> Scope:
        return Scope(self.variables, "options", self.levels[-1:])

    def at(self, place: str, *, in_steering: bool = False) -> Scope:
        """The same at another key."""
        found = Scope(self.variables, place, self.levels, self.extra)
        found.in_steering = in_steering
        return found

    def inside(self, place: str, parameters: Mapping[str, Any]) -> Scope:
        """One level further in, with parameters of its own."""
        level: dict[str, Variable] = {}
        found = Scope(self.variables, place, (level, *self.levels), self.extra)
        for name, raw in parameters.items():
            level[name] = self.variables.add(f"{place}.{name}" if self.levels else name, raw, found, f"{place}.{name}" if self.levels else f"steering.{name}")
        return found

    def note(self, word: str, about: str) -> Note:
        note = Note(word, self.place, about)
        if note not in self.variables.notes:
            self.variables.notes.append(note)
        return note

    # names

    def find(self, family: str, name: str) -> Expr | None:
        if family in ("", "steering"):
            for level in self.levels if family == "" else self.levels[-1:]:
                if name in level:
                    return self.of(level[name])
        if family == "" and name in self.extra:
            return Expr(self.extra[name], "text", self.extra[name])
        if family == "" and isinstance(known := self.variables.about.get(name), str | int | float):
            return Expr(joined([str(known)]), "text", known)
        if family in ("", "args", "options"):
            return self.variables.option(name, self)
        if family == "system":
            return self._system(name)
        if family == "metadata" and name in self.variables.metadata:
            known = written(self.variables.metadata[name])
            return Expr(joined([known]), "text", known)
        return Expr(f"$attr({name})") if family == "attr" else None

    def _system(self, name: str) -> Expr | None:
        if name in self.variables.system:
            variable = self.variables.entries.get(safe(f"system_{name}"))
            return self.of(variable or self.variables.add(f"system_{name}", self.variables.system[name], self.outermost, f"steering.system.{name}"))
        self.note("CHECK", f"$system({name}) is asked of the site: [site.NAME.system] must have it, and it has a value in commands only")
        return Expr(f"$system({name})")

    def computed(self, family: str, pieces: Sequence[Piece]) -> Expr | None:
        name = "".join(re.sub(r"[^A-Za-z0-9_-]+", "_", piece) if isinstance(piece, str) else as_word(piece).text for piece in pieces)
        shape = "".join(re.escape(re.sub(r"[^A-Za-z0-9_-]+", "_", piece)) if isinstance(piece, str) else ".+" for piece in pieces)
        known = [variable.name for variable in self.levels[-1].values()] if self.levels else []
        if self.in_steering or family not in ("", "steering") or not any(re.fullmatch(shape, one) for one in known):
            return None
        self.note("CHECK", f"$steering({name}): a computed name; the variables that it may mean are those of [steering]")
        return Expr(f"$steering({name})")

    def of(self, variable: Variable) -> Expr:
        """The expression for a variable, with what is known of its value."""
        if variable.known is not None:
            return variable.known
        text = f"$steering({variable.name})"
        raw = variable.raw
        if isinstance(raw, bool):
            found = Expr(text, "flag", raw)
        elif isinstance(raw, int | float):
            found = Expr(text, "number", raw)
        elif isinstance(raw, list | dict):
            found = Expr(text, "list", raw)
        elif not isinstance(raw, str) or "$" not in raw:
            found = Expr(text, "text", raw if raw is not None else "None")
        elif variable.open:
            return Expr(text)
        else:
            variable.open = True
            quiet = len(self.variables.notes)
            pieces = variable.scope.at(f"steering.{variable.name}", in_steering=True).translator.pieces(raw)
            del self.variables.notes[quiet:]
            variable.open = False
            inner = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], Expr) else Expr("", "text")
            constant = None if any(isinstance(piece, Expr) for piece in pieces) else "".join(map(str, pieces))
            padded = inner.padded or (len(pieces) > 1 and bool(self._digits(pieces)))
            begins = (pieces[0] if isinstance(pieces[0], str) else pieces[0].begins or written(pieces[0].raw or "")) if pieces else ""
            found = Expr(text, inner.kind, inner.raw if inner.text else constant, begins, padded)
        variable.known = found
        return found

    # values

    def text(self, raw: Any) -> str:
        """A text in which values are inserted, as ours."""
        return self._joined(self.translator.pieces(raw)) if isinstance(raw, str) else joined([written(raw)])

    def _joined(self, pieces: Sequence[Piece], literal: Callable[[str], str] = str) -> str:
        """Lists have no text here, and stand as IceProd writes them."""
        return joined([literal(one) if isinstance(one, str) else self._list_text(one) if one.kind == "list" else one for one in pieces])

    def _list_text(self, piece: Expr) -> Piece:
        return Expr(self.json(self.value(piece.raw)), "text")

    def variable(self, raw: Any) -> Any:
        """A value of ``[steering]``; None where there is none."""
        if isinstance(raw, list):
            members = [self.variable(one) for one in raw]
            return None if any(one is None or isinstance(one, list) for one in members) else members
        if isinstance(raw, str):
            pieces = self.translator.pieces(raw)
            only = pieces[0] if len(pieces) == 1 else ""
            return only.text if isinstance(only, Expr) else self._joined(pieces)
        return raw if isinstance(raw, bool | int | float) and abs(raw) < 2**63 else None

    def value(self, raw: Any) -> Any:
        """A parameter as IceProd gives it to a class or a file of JSON: with its type; texts may be our expressions."""
        if isinstance(raw, list):
            return [self.value(one) for one in raw]
        if isinstance(raw, dict):
            return {self.text(name): self.value(one) for name, one in raw.items()}
        return self.of_pieces(self.translator.pieces(raw)) if isinstance(raw, str) else raw

    def of_pieces(self, pieces: Sequence[Piece]) -> Any:
        """The value of a text that stands alone."""
        if not any(isinstance(piece, Expr) for piece in pieces):
            plain = "".join(map(str, pieces))
            read = reads_as(plain) if self.variables.strict else plain
            return self.value(read) if isinstance(read, list | dict) else joined([read]) if isinstance(read, str) else read
        if self.variables.strict and (inside := _unquoted(pieces)) is not None:
            return self.of_pieces(inside)
        lists = [piece for piece in pieces if isinstance(piece, Expr) and piece.kind == "list"]
        if self.variables.strict and len(lists) == 1 and all(piece is lists[0] or (isinstance(piece, str) and piece.isspace()) for piece in pieces):
            pieces = lists  # blanks around a list do not count
        only = pieces[0] if len(pieces) == 1 else ""
        if not isinstance(only, Expr):
            return self._digits(pieces) or self._joined(pieces)
        if only.kind == "list" and isinstance(only.raw, list | dict):
            return self.value(only.raw)
        if self.variables.strict and only.kind == "text" and isinstance(only.raw, str):
            read = reads_as(only.raw)
            if not isinstance(read, str):
                return f"$eval({only.text})" if isinstance(read, int | float) and not isinstance(read, bool) else read
        return f"$eval({only.text})" if only.padded else only.text

    def _digits(self, pieces: Sequence[Piece]) -> str:
        """A text that is put together of digits only: IceProd 2 and 3 read it as a number."""
        form = ""
        ends = {0: str.lstrip, len(pieces) - 1: str.rstrip}  # blanks around a number do not count
        for number, piece in enumerate(pieces):
            piece = ends.get(number, str)(piece) if isinstance(piece, str) else piece
            known = piece if isinstance(piece, str) else piece.raw if isinstance(piece.raw, str) else "" if piece.kind == "number" or piece.padded else "x"
            if not self.variables.strict or not re.fullmatch(r"[0-9.]*" if form else r"[+-]?[0-9.]*", known):
                return ""
            form += piece if isinstance(piece, str) else "%s"
        said = f"$sprintf('{form}', {', '.join(piece.text for piece in pieces if isinstance(piece, Expr))})"
        if form.startswith("+"):  # which only Python's float() takes, so that IceProd writes +5 as 5.0
            return f"$eval(float({said}))" if "." not in form else ""
        return f"$eval({said})"

    def word(self, pieces: Sequence[Piece]) -> str:
        """One argument of a command, as IceProd 2 and 3 write it."""
        only = pieces[0] if len(pieces) == 1 else ""
        if isinstance(only, Expr) and only.kind == "flag":
            return as_word(only).text
        value = self.of_pieces(pieces) if self.variables.strict else self._joined(pieces)
        if isinstance(value, list | dict) and "$" in str(value):
            self.note("CHECK", f"{value}: a list with expressions as one argument")
            return self.json(value)
        return str(value)

    def words(self, text: str) -> list[list[Piece]]:
        """The words of a text, which IceProd takes apart at blanks after its values are in it."""
        found: list[list[Piece]] = []
        glued = False
        for piece in self.translator.pieces(text):
            if isinstance(piece, Expr) and isinstance(piece.raw, str) and (re.search(r"\s", piece.raw) or not piece.raw):
                piece = piece.raw
            if isinstance(piece, Expr):
                found = found if glued else [*found, []]
                found[-1].append(piece)
                glued = True
                continue
            parts = re.split(r"(\s+)", piece)
            for part in parts:
                if not part or part.isspace():
                    glued = glued and not part
                    continue
                found = found if glued else [*found, []]
                found[-1].append(part)
                glued = True
        return found

    def json(self, value: Any) -> str:
        """What ``value`` gave, as JSON; expressions stand in it bare or in quotes, as their type wants it."""
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.json(str(name))}: {self.json(one)}" for name, one in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self.json, value)) + "]"
        return json.dumps(value)

    def json_of(self, raw: Any) -> str:
        """A value of IceProd as JSON in which our expressions stand."""
        if isinstance(raw, dict):
            return "{" + ", ".join(f"{self.json_of_text(str(name))}: {self.json_of(one)}" for name, one in raw.items()) + "}"
        if isinstance(raw, list):
            return "[" + ", ".join(map(self.json_of, raw)) + "]"
        if not isinstance(raw, str):
            return json.dumps(raw)
        pieces = self.translator.pieces(raw)
        value = self.value(raw)
        only = pieces[0] if len(pieces) == 1 else ""
        if isinstance(value, str) and isinstance(only, Expr) and (only.kind in ("number", "flag") or value != only.text):
            return value
        if isinstance(value, str):
            return self.json_of_text(raw) if any(isinstance(piece, Expr) for piece in pieces) else joined([json.dumps(value.replace("$$", "$"))])
        return self.json_of(value) if isinstance(value, list | dict) else json.dumps(value)

    def json_of_text(self, raw: str) -> str:
        pieces = self.translator.pieces(raw)
        for piece in pieces:
            if isinstance(piece, Expr) and isinstance(piece.raw, str) and json.dumps(piece.raw) != f'"{piece.raw}"':
                self.note("CHECK", f"{piece.text} holds quotes or backslashes, which break the JSON around it")
        return '"' + self._joined(pieces, lambda text: json.dumps(text)[1:-1]) + '"'


