"""Tasks, trays and modules of an IceProd configuration as those of a steering file (hides how IceProd starts a module)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.foreign.iceprod_data import Transfers
from icp.dsl.foreign.iceprod_names import Note, Scope
from icp.dsl.foreign.iceprod_needs import Asked, needs
from icp.dsl.foreign.iceprod_words import Piece
from icp.dsl.foreign.toml_text import Comment, comment, key, table
from icp.dsl.foreign.words import sh
from icp.dsl.syntax import split

__all__ = ["CALL_CLASS", "Tasks"]

CALL_CLASS = """\
import importlib, json, sys
module, _, name = sys.argv[1].rpartition(".")
one = getattr(importlib.import_module(module), name)()
for key, value in json.loads(sys.argv[2]).items():
    one.SetParameter(key, value)
sys.exit(one.Execute({}) or 0)
"""
"""Starts a class of IceProd 1 as IceProd 3 does: ``python -c CALL_CLASS CLASS PARAMETERS``."""

_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*(?![\w(])|\{[A-Za-z_]\w*\})")
_SHELL = re.compile(r"[\s'\"`\\&;|<>*?#~]")
_SEEN = {
    "task": {"name", "depends", "task_files", "data", "resources", "parameters", "batchsys", "requirements", "conditions", "container", "trays"},
    "tray": {"name", "iterations", "data", "resources", "parameters", "modules", "software"},
    "module": {"name", "data", "resources", "parameters", "src", "running_class", "args", "env_shell", "env_clear", "configs", "params", "extern", "url"},
}  # fmt: skip



@dataclass(slots=True)
class _Tray:
    """A tray of ours: those modules of one of IceProd's that have one environment."""

    software: str
    iterations: Any
    name: str
    modules: list[dict[str, Any]] = field(default_factory=list)


class Tasks:
    """All of a configuration's tasks; ``lines`` are the tables, ``software`` the environments that they name."""

    def __init__(self, tasks: Sequence[Mapping[str, Any]], outer: Scope, base: Sequence[Mapping[str, Any]], version: float, shared: Asked, port: bool) -> None:
        self.outer = outer
        self.version = version
        self.shared = shared
        self.port = port
        self.strict = outer.variables.strict
        self.software: dict[str, dict[str, Any]] = {}
        self.call_class = False
        self.names = _named(tasks)
        self._base = base
        self._tasks = list(zip(self.names, tasks, strict=True))
        self.transfers = Transfers(version, self._before())
        self._scopes: dict[str, Scope] = {}
        self._owner: dict[str, str] = {}
        for name, task in self._tasks:
            self._collect(name, task)

    def _collect(self, name: str, task: Mapping[str, Any]) -> None:
        """Scopes of the task and all files of it, before anything is written: inputs are found by others' outputs."""
        scope = self.outer.inside(f"task.{name}", task.get("parameters") or {})
        self._scopes[name] = scope
        self.transfers.collect(name, self._base, scope.at(f"task.{name}.data"))
        self.transfers.collect(name, _files(task), scope.at(f"task.{name}.data"))
        for number, tray in enumerate(task.get("trays") or ()):
            inner = scope.inside(f"task.{name}.tray{number}", tray.get("parameters") or {})
            self._scopes[f"{name}.{number}"] = inner
            self.transfers.collect(name, _files(tray), inner.at(f"task.{name}.tray{number}.data"))
            for at, module in enumerate(tray.get("modules") or ()):
                own = inner.inside(f"task.{name}.tray{number}.module{at}", module.get("parameters") or {})
                self._scopes[f"{name}.{number}.{at}"] = own
                self._owner[own.place] = name
                self.transfers.collect(name, _files(module), own.at(f"task.{name}.tray{number}.module{at}.data"))

    def _before(self) -> dict[str, set[str]]:
        """The tasks that each task comes after, over others too."""
        parents = {name: {self.names[at] for at in self._known(task)[0]} for name, task in self._tasks}
        found: dict[str, set[str]] = {}
        for name in self.names:
            reached: set[str] = set()
            waiting = list(parents[name])
            while waiting:
                one = waiting.pop()
                if one not in reached:
                    reached.add(one)
                    waiting += parents[one]
            found[name] = reached
        return found

    def lines(self) -> list[str]:
        """The tables of all tasks."""
        out: list[str] = []
        for name, task in self._tasks:
            out += ["", *self._task(name, task)]
        return out

    def _task(self, name: str, task: Mapping[str, Any]) -> list[str]:
        scope = self._scopes[name]
        files = self.transfers.of(name)
        for level in [one for full, one in self._scopes.items() if full == name or full.startswith(f"{name}.")]:
            level.extra.update(input=" ".join(files.arriving), output=" ".join(files.leaving))
        entries: dict[str, Any] = {}
        comments: list[Note] = []
        if task.get("name") not in (None, "", name):
            entries["\0name"] = Comment(f"in IceProd: {task['name']}")
        parents, missing = self._known(task)
        comments += [scope.note("NOT CONVERTED", f"depends on {one!r}, and there is no such task") for one in missing]
        after = [self.names[at] for at in parents]
        after += [one for one in dict.fromkeys(text.partition(":")[0] for text in files.inputs if isinstance(text, str)) if one not in after]
        if after:
            entries["after"] = after
        if files.inputs:
            entries["inputs"] = files.inputs
        if files.outputs:
            entries["outputs"] = files.outputs
        before = len(scope.variables.notes)
        entries.update(needs(task, scope, self.version, self.shared))
        if task.get("container"):
            comments.append(scope.note("NOT CONVERTED", f"container = {json.dumps(task['container'])}: it belongs to a [software.NAME] that the task names"))
        if task.get("task_files"):
            about = 'task_files: IceProd looks up the input files of each job; here jobs.files = "data/*.i3" gives a job a file'
            comments.append(scope.note("NOT CONVERTED", about))
        comments += self._rest(task, "task", scope)
        trays = [one for number, tray in enumerate(task.get("trays") or ()) for one in self._tray(name, number, tray)]
        comments = list(dict.fromkeys([*comments, *files.notes, *(n for n in scope.variables.notes[before:] if n.place == scope.place)]))
        lines = [f"[{key('task', name)}]", *(line for note in comments for line in comment(str(note)))]
        short = len(trays) == 1 and trays[0].iterations == 1 and len(trays[0].modules) == 1 and "command" in trays[0].modules[0]
        if not trays:
            note = scope.note("NOT CONVERTED", "the task has no modules, so it has nothing to run; true stands for it")
            entries.update({"\0none": Comment(str(note)), "command": "true"})
        if short:
            if trays[0].software:
                entries["software"] = trays[0].software
            entries.update(trays[0].modules[0])
        lines += table(entries)
        for tray in trays if not short else ():
            lines += ["", *self._written(name, tray)]
        return lines

    def _written(self, name: str, tray: _Tray) -> list[str]:
        lines = [f"  [[{key('task', name)}.tray]]" + ("".join(comment(tray.name, "  ")) if tray.name else "")]
        about = {"software": tray.software, "iterations": tray.iterations}
        lines += table({name: value for name, value in about.items() if value and (name != "iterations" or value != 1)}, "  ")
        for module in tray.modules:
            lines += ["", f"    [[{key('task', name)}.tray.module]]", *table(module, "    ")]
        return lines

    def _known(self, task: Mapping[str, Any]) -> tuple[list[int], list[Any]]:
        """The numbers of its parents, and those that there are not; IceProd 2 also knows them by number."""
        known = [str(other.get("name", "")) for _, other in self._tasks]
        found, missing = [], []
        for one in task.get("depends") or ():
            if isinstance(one, str) and one in known:
                found.append(known.index(one))
            elif re.fullmatch(r"\d{1,9}", str(one)) and int(one) < len(known):
                found.append(int(one))
            else:
                missing.append(one)
        return list(dict.fromkeys(found)), missing

    def _rest(self, given: Mapping[str, Any], what: str, scope: Scope) -> list[Note]:
        """What is said there and nowhere known."""
        return [
            scope.note("NOT CONVERTED", f"{name} = {json.dumps(value)}")
            for name, value in given.items()
            if name not in _SEEN[what] and value not in (None, "", [], {}, False)
        ]

    def _tray(self, task: str, number: int, tray: Mapping[str, Any]) -> list[_Tray]:
        scope = self._scopes[f"{task}.{number}"]
        iterations = tray.get("iterations", 1)
        if isinstance(iterations, str):
            iterations = int(iterations) if iterations.strip().isdigit() else scope.text(iterations)
        notes = self._rest(tray, "tray", scope)
        if iterations in (0, "0"):
            notes.append(scope.note("NOT CONVERTED", f"tray {tray.get('name') or number} has 0 iterations: it never runs, and is left out"))
        given = str(tray.get("name") or "")
        out: list[_Tray] = []
        modules = tray.get("modules") or () if iterations not in (0, "0") else ()
        shells = [str(module.get("env_shell") or "") for module in modules]
        one_shell = len(set(shells)) <= 1
        for at, module in enumerate(modules):
            own = self._scopes[f"{task}.{number}.{at}"]
            before = len(own.variables.notes)
            prefix, software = self._environment(shells[at], own, as_software=one_shell or iterations == 1)
            software = software or str(tray.get("software") or "")
            written = self._module(module, own, prefix)
            if not out or out[-1].software != software:
                out.append(_Tray(software, iterations, given if not out else f"{given}, continued".lstrip(", ")))
            heads = [str(note) for note in [*notes, *self._rest(module, "module", own), *own.variables.notes[before:]]]
            notes = []
            name = [str(module["name"])] if module.get("name") else []
            for one in written[:-1]:
                out[-1].modules.append(one)
            comments = "\n".join(dict.fromkeys([*name, *heads]))
            out[-1].modules.append(({"\0about": Comment(comments)} if comments else {}) | written[-1])
        if notes and not out:
            self.transfers.of(task).notes.extend(notes)
        return out

    def _environment(self, shell: str, scope: Scope, as_software: bool) -> tuple[list[list[Piece]], str]:
        """The words before a command, or the name of a software environment."""
        if not shell:
            return [], ""
        words = scope.words(shell)
        if not as_software or any(not isinstance(piece, str) for word in words for piece in word) or not shell.startswith("/"):
            if "://" in shell:
                scope.note("CHECK", f"env_shell {shell}: IceProd fetches it; here it must be an input of the task")
            return words, ""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", shell.rsplit(maxsplit=1)[-1]).strip("-.") or "software"
        number, base = 2, name
        while name in self.software and self.software[name]["shell"] != shell:
            name, number = f"{base}-{number}", number + 1
        match = re.match(r"/cvmfs/([^/]+)/", shell)
        self.software[name] = ({"cvmfs": [match[1]]} if match else {}) | {"shell": shell}
        return [], name

    def _module(self, module: Mapping[str, Any], scope: Scope, prefix: list[list[Piece]]) -> list[dict[str, Any]]:
        before = [self._config(str(file), data, scope) for file, data in (module.get("configs") or {}).items()]
        if module.get("extern"):
            return [*before, {"command": self._extern(module["extern"], scope)}]
        if "params" in module:
            return [*before, self._ported(module, scope) if self.port else self._class({**module, "args": module["params"]}, scope, prefix)]
        running, src = module.get("running_class"), module.get("src")
        if running and (self.version < 3 or not src):
            return [*before, self._class(module, scope, prefix)]
        if not src:
            note = scope.note("NOT CONVERTED", "the module has neither src nor running_class, so it has nothing to run; true stands for it")
            return [*before, {"\0none": Comment(str(note)), "command": ["true"]}]
        program = scope.words(str(src))
        path = str(src)
        if "://" in path or path.startswith("$"):
            first = scope.text(path)
            if "://" in path:
                program = [[re.sub(r"[?#].*", "", first).rpartition("/")[2]]]
                scope.note("CHECK", f"src {path}: IceProd fetches it; here it is an input of the task")
                self.transfers.of(self._owner[scope.place]).fetch(first)
        elif not path.startswith("/"):
            scope.note("CHECK", f'src {path}: it must be shipped with the dataset (files = ["{path}"]) or be an input of the task')
        if path.endswith(".py"):
            program = [["python"], *program]
        elif path.endswith(".sh"):
            program = [["/bin/sh"], *program]
        elif not path.startswith("/") and program and isinstance(program[0][0], str):
            program[0][0] = f"./{program[0][0]}"
        return [*before, {"command": self._command([*prefix, *program], self._arguments(module.get("args"), scope), scope)}]

    def _arguments(self, args: Any, scope: Scope) -> list[list[Piece] | str]:
        """Arguments as pieces, or as texts of ours."""
        if isinstance(args, str) and args[:1] in ("{", "["):
            try:
                args = json.loads(args)
            except ValueError:
                pass
        named: Mapping[str, Any] = {}
        out: list[list[Piece] | str] = []
        if isinstance(args, dict) and set(args) == {"args", "kwargs"}:
            args, named = args["args"], args["kwargs"]
        if isinstance(args, dict):
            named = args
        elif isinstance(args, str):
            out += scope.words(args)
        elif isinstance(args, list):
            out += [scope.translator.pieces(one) if isinstance(one, str) else str(one) for one in args]
        elif args is not None:
            out.append(str(args))
        for name, value in named.items():
            flag = ("-" if len(name) <= 1 else "--") + scope.text(name)
            if value is None:
                out.append(flag)
            elif isinstance(value, str):
                out.append(f"{flag}={scope.word(scope.translator.pieces(value))}")
            else:
                plain = scope.value(value)
                out.append(f"{flag}={plain if '$' not in str(plain) else scope.json_of(value)}")
        return out

    def _command(self, program: list[list[Piece]], args: list[list[Piece] | str], scope: Scope) -> Any:
        """A list; a text for the shell where variables of the environment are in it."""
        words = [word if isinstance(word, str) else scope.word(word) for word in [*program, *args]]
        literal = [part for word in words for part in split(word) if isinstance(part, str)]
        if self.version >= 3 and any(_SHELL.search(part) for part in literal):
            scope.note("CHECK", "IceProd 3 gives its arguments to a shell without quotes; here each is one argument as it stands")
        if any(_VARIABLE.search(part) for part in literal):
            return " ".join(map(_shell_word, words))
        return words

    def _class(self, module: Mapping[str, Any], scope: Scope, prefix: list[list[Piece]]) -> dict[str, Any]:
        """A class of IceProd 1: called as IceProd 3 does it."""
        self.call_class = True
        running = str(module["running_class"])
        args = module.get("args")
        if isinstance(args, str):
            try:
                args = json.loads(args) if args else {}
            except ValueError:
                scope.note("CHECK", f"args = {json.dumps(args)}: parameters of a class are a table")
                args = {"args": args}
        if isinstance(args, dict) and set(args) == {"args", "kwargs"}:
            args = args["kwargs"]
        if src := module.get("src") or module.get("url"):
            scope.note("CHECK", f"{running} comes from {src} in IceProd; here it must be importable where the task runs")
        words: list[list[Piece] | str] = ["$steering(call_class)", scope.text(running), scope.json_of(args or {})]
        return {"command": [*(scope.word(word) for word in prefix), "python", "-c", *(str(word) for word in words)]}

    def _ported(self, module: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
        """A module of IceProd 1 whose class somebody writes anew."""
        name = scope.text(str(module.get("running_class") or "Module"))
        folder, _, last = name.rpartition(".")
        url = str(module.get("url") or "")
        python = url.rpartition("/")[2] or (folder.replace(".", "/") or last.lower()) + ".py"
        scope.note("CHECK", f"{name} is a class for IceProd 1: {url or python} must hold one that is written for icp")
        params = {}
        for one, value in (module.get("params") or {}).items():
            if value is None:
                scope.note("NOT CONVERTED", f"{one} = null")
            else:
                params[one] = scope.value(value)
        return {"python": python, "class": last} | ({"url": url} if url else {}) | ({"params": params} if params else {})

    def _extern(self, extern: Mapping[str, str], scope: Scope) -> str:
        words = [_shell_word(scope.word(word)) for word in [*scope.words(extern.get("exec", "")), *scope.words(extern.get("args", ""))]]
        for one, sign in (("in", "<"), ("out", ">"), ("err", "2>")):
            if extern.get(one):
                words.append(sign + " ".join(_shell_word(scope.word(word)) for word in scope.words(extern[one])))
        return " ".join(words)

    def _config(self, file: str, data: Any, scope: Scope) -> dict[str, Any]:
        """Writes a file of JSON before the module runs."""
        return {"\0file": Comment(f"writes {file}"), "command": ["/bin/sh", "-c", 'printf %s "$1" > "$2"', "sh", scope.json_of(data), scope.text(file)]}


def _shell_word(text: str) -> str:
    """One word of a text command in which the shell puts in variables of the environment."""
    out = ""
    for part in split(text):
        if not isinstance(part, str):
            out += part.text
            continue
        at = 0
        for match in _VARIABLE.finditer(part):
            out += _quoted(part[at : match.start()]) + f'"{match[0]}"'
            at = match.end()
        out += _quoted(part[at:])
    return out or "''"


def _quoted(text: str) -> str:
    return sh(text) if text else ""


def _files(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    resources = [{"movement": "input", **one, "type": "resource"} for one in given.get("resources") or ()]
    return [*resources, *(given.get("data") or ())]


def _named(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    names: list[str] = []
    for number, task in enumerate(tasks):
        given = str(task.get("name") or (f"task{number}" if len(tasks) > 1 else "main"))
        base = name = re.sub(r"[^A-Za-z0-9._-]+", "-", given).lstrip(".-")[:90] or f"task{number}"
        again = 2
        while name in names:
            name, again = f"{base}-{again}", again + 1
        names.append(name)
    return names


