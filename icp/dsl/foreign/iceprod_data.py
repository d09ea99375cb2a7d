"""Data that IceProd moves for its tasks, as inputs and outputs (hides movement, transfer and temporary places)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.foreign.iceprod_names import Note, Scope
from icp.dsl.foreign.words import name as escaped
from icp.dsl.foreign.words import pattern_of
from icp.dsl.names import is_glob, unsafe
from icp.dsl.syntax import split

__all__ = ["Files", "Transfers"]

_TEMPORARY = ("job_temp", "task_temp", "tray_temp")
_SEEN = {"remote", "local", "type", "movement", "transfer", "compression", "arch"}


@dataclass(slots=True)
class Files:
    """Inputs and outputs of one task, as its keys have them."""

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    arriving: list[str] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def fetch(self, url: str, name: str = "") -> None:
        """An input by its URL."""
        about = {"url": url, "name": name} if name and name != url.rpartition("/")[2] else {"url": url}
        if about not in self.inputs:
            self.inputs.append(about)


@dataclass(frozen=True, slots=True)
class _Datum:
    task: str
    kind: str
    local: str
    where: str
    movement: str
    optional: bool
    scope: Scope


class Transfers:
    """The files of all tasks: what one leaves in a temporary place for another becomes an input from it."""

    def __init__(self, version: float, before: Mapping[str, set[str]]) -> None:
        """``before``: the tasks that each task comes after."""
        self._version = version
        self._before = before
        self._data: list[_Datum] = []
        self._files: dict[str, Files] = {}
        self._done: set[str] = set()

    def collect(self, task: str, data: Sequence[Mapping[str, Any]], scope: Scope) -> None:
        files = self._files.setdefault(task, Files())
        for one in data:
            before = len(scope.variables.notes)
            found = self._datum(task, one, scope)
            if found is not None and found not in self._data:
                self._data.append(found)
            files.notes += scope.variables.notes[before:]

    def _datum(self, task: str, one: Mapping[str, Any], scope: Scope) -> _Datum | None:
        shown = json.dumps({name: value for name, value in one.items() if value not in ("", None, False)})
        remote, local = str(one.get("remote") or ""), str(one.get("local") or "")
        kind = str(one.get("type") or "permanent").lower()
        transfer = _transfer(one.get("transfer", True))
        if transfer == "no":
            scope.note("CHECK", f"data {shown}: IceProd does not transfer it, and it is left out")
            return None
        if not remote and not local:
            scope.note("NOT CONVERTED", f"data {shown}: neither remote nor local is said")
            return None
        if one.get("compression") not in (None, "", False, "none"):
            scope.note("CHECK", f"data {shown}: IceProd unpacks or packs it; here it comes and goes as it is")
        for name in one.keys() - _SEEN:
            scope.note("NOT CONVERTED", f"data {shown}: {name}")
        name = _plain(scope.text(local)) if local else scope.text(remote).rpartition("/")[2]
        movement = str(one.get("movement") or ("input" if self._version >= 3 else "both")).lower()
        if kind in _TEMPORARY and not self._is_url(remote, scope):
            where = scope.text(remote) if remote else name
        else:
            kind, where = "url", self._url(kind, remote or local, scope)
        return _Datum(task, kind, name, where, movement, transfer == "maybe", scope)

    def _is_url(self, remote: str, scope: Scope) -> bool:
        """Whether it begins with a protocol, as far as that is known."""
        pieces = scope.translator.pieces(remote)
        if not pieces:
            return False
        begins = pieces[0] if isinstance(pieces[0], str) else pieces[0].begins or str(pieces[0].raw)
        return re.match(r"[a-z][a-z0-9+.-]*:/", begins) is not None

    def _url(self, kind: str, remote: str, scope: Scope) -> str:
        url = scope.text(remote)
        if self._is_url(remote, scope):
            return url
        base = {"resource": "resource_url", "permanent": "data_url"}.get(kind, kind)
        found = scope.find("options", kind if kind in scope.variables.options else base)
        if found is None:
            scope.note("NOT CONVERTED", f"{remote!r}: {base} is not known, so where it is cannot be said")
            return url
        rest = url.lstrip("/")
        return (found.text if rest and str(found.raw or "").endswith("/") else f"{found.text}/") + rest

    def of(self, task: str) -> Files:
        """The files of one task; what is found out is marked there."""
        files = self._files.setdefault(task, Files())
        if task in self._done:
            return files
        self._done.add(task)
        own = [one for one in self._data if one.task == task]
        arriving = [one for one in own if one.movement in ("input", "both")]
        for take, data in ((self._arrives, arriving), (self._leaves, [one for one in own if one.movement in ("output", "both")])):
            for one in data:
                before = len(one.scope.variables.notes)
                if why := unsafe("".join(piece if isinstance(piece, str) else "x" for piece in split(one.local))):
                    one.scope.note("NOT CONVERTED", f"the file {one.local!r} {why}; it must be one below the task's directory")
                else:
                    take(one, files)
                files.notes += one.scope.variables.notes[before:]
        return files

    def _arrives(self, one: _Datum, files: Files) -> None:
        temporary = one.kind in _TEMPORARY
        makers = [other for other in self._data if other.movement == "output" and (other.kind, other.where) == (one.kind, one.where)]
        if any(other.task == one.task for other in makers):
            return
        makers = [other for other in makers if other.task in self._before[one.task] and self._declares(other)]
        name = makers[0].local if makers else one.local
        if name in files.arriving:
            one.scope.note("NOT CONVERTED", f"another file arrives as {name}; {one.where} needs a name of its own")
            return
        if makers:
            text = f"{makers[0].task}:{_named(makers[0].local)}"
            if name != one.local:
                one.scope.note("CHECK", f"IceProd gives it as {one.local}; here it arrives as {name}")
            if text not in files.inputs:
                files.inputs.append(text)
        elif temporary:
            one.scope.note("NOT CONVERTED", f"the temporary file {one.where} comes from no task before this one")
            return
        elif _folder(one.where):
            one.scope.note("NOT CONVERTED", f"{one.where} is a folder: an input is one file")
            return
        else:
            files.fetch(one.where, one.local)
            if one.optional:
                one.scope.note("CHECK", f"{one.where} may be missing in IceProd; here it must be there")
        files.arriving.append(name)

    def _declares(self, one: _Datum) -> bool:
        return any(given["name"] == _named(one.local) for given in self.of(one.task).outputs)

    def _leaves(self, one: _Datum, files: Files) -> None:
        if one.movement == "both" or one.local in files.arriving:
            one.scope.note("NOT CONVERTED", f"{one.local} is an input and an output of the task; an output needs a name of its own")
            return
        if one.kind not in _TEMPORARY and _folder(one.where):
            one.scope.note("NOT CONVERTED", f"{one.local} goes to {one.where}, which is a folder: an output goes to one file")
            return
        about: dict[str, Any] = {"name": _named(one.local)}
        if one.optional:
            about["optional"] = True
        about["keep"] = False
        if one.kind not in _TEMPORARY and about["name"] == one.local:
            about["url"] = one.where
        elif one.kind not in _TEMPORARY:
            what = f"{one.local} is a pattern here, and goes to no single URL ({one.where})"
            about_home = (task for task, other in self._files.items() for given in other.outputs if given["name"] == about["name"] and "keep" not in given)
            home = next(about_home, None)
            if home in (None, one.task):
                about.pop("keep")
                one.scope.note("NOT CONVERTED", f"{what}; it comes home")
            else:
                one.scope.note("NOT CONVERTED", f"{what}; that of {home} comes home, in the same folder: give one of them another name and keep = true")
        same = [given for given in files.outputs if given["name"] == about["name"]]
        if same and "url" in about and "url" not in same[0]:
            same[0].update(url=one.where)
        elif same and about.get("url", same[0].get("url")) != same[0].get("url"):
            one.scope.note("NOT CONVERTED", f"{one.local} also goes to {one.where}; an output goes to one place")
        elif not same:
            files.outputs.append(about)
            files.leaving.append(one.local)


def _folder(where: str) -> bool:
    """Whether no file is named, or only a host."""
    return where.endswith("/") or re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*", where) is not None


def _named(local: str) -> str:
    """An output's name: here ``*``, ``?`` and ``[`` would make a pattern."""
    return "".join(escaped(pattern_of(piece)) if isinstance(piece, str) else piece.text for piece in split(local)) if is_glob(_fixed(local)) else local


def _fixed(local: str) -> str:
    return "".join(piece for piece in split(local) if isinstance(piece, str))


def _plain(name: str) -> str:
    """Without what does not count in a path."""
    return re.sub(r"(?<=/)(?:\.?/)+", "", re.sub(r"\A(?:\./+)+", "", name))


def _transfer(given: Any) -> str:
    """yes, no, or maybe."""
    if isinstance(given, str):
        word = given.lower()
        if word in ("n", "no", "not", "f", "false", "0"):
            return "no"
        return "maybe" if word in ("m", "maybe", "exists") or word.startswith("if") else "yes"
    return "yes" if given else "no"
