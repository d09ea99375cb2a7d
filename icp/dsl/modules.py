"""Python modules of a dataset: which file and class each is, and whether its parameters are those that it declares (hides
where files come from).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.command import is_file
from icp.dsl.declarations import Class, NotPython, imports, read
from icp.dsl.disk import Disk, predefined
from icp.dsl.locator import KeyPath
from icp.dsl.names import unsafe
from icp.dsl.syntax import START, nearest
from icp.dsl.tasks import Draft
from icp.model.definition import Module, Origin, TaskDef
from icp.pilot.module import accept, wrong
from icp.pilot.modules import NAMES

__all__ = ["CannotFetch", "Declarations", "Fetch", "Fetched", "check_values", "left_out", "module_files", "predefined_class", "settle"]

Declarations = dict[tuple[str, int, int], Class]
"""(task, tray, module) -> what its class declares."""


class CannotFetch(Exception):
    """A module cannot be had from its URL; the text is one sentence without an end."""


@dataclass(frozen=True)
class Fetched:
    """A module that was fetched: its origin in full, its path in the pack, its text, and those of modules beside it."""

    origin: Origin
    python: str
    text: str
    beside: Callable[[str], str | None]


Fetch = Callable[[Origin, str], Fetched]
"""(origin, path in a repository or "") -> what is there; CannotFetch."""


def settle(drafts: list[Draft], disk: Disk | None, mistakes: Mistakes, fetch: Fetch | None) -> tuple[list[Draft], Declarations]:
    """The drafts with every Python module's class and origin known, and what the classes declare.

    Without ``disk`` or ``fetch`` what they would give is taken as it is, and its parameters are not checked.
    """
    declared: Declarations = {}
    found = []
    for draft in drafts:
        trays = []
        for index, tray in enumerate(draft.task.trays):
            modules = []
            for number, module in enumerate(tray.modules):
                if module.command:
                    module = Module(module.command)
                elif module.python is not None or module.origin is not None:
                    here = (*draft.path, "tray", index, "module", number)
                    module, cls = _Settling(module, here, disk, mistakes, fetch).settled()
                    if cls is not None:
                        declared[draft.task.name, index, number] = cls
                modules.append(module)
            trays.append(replace(tray, modules=tuple(modules)))
        found.append(replace(draft, task=replace(draft.task, trays=tuple(trays))))
    return found, declared


def module_files(tasks: list[TaskDef]) -> list[str]:
    """The files beside the steering file that are Python modules of these tasks."""
    modules = [module for task in tasks for tray in task.trays for module in tray.modules]
    return [one.python for one in modules if one.python is not None and one.origin is None and is_file(one.python)]


def left_out(path: str, shipped: set[str], disk: Disk) -> list[str]:
    """Files and folders that a module's file imports from beside itself, and that are not shipped."""
    folder = path.rpartition("/")[0]
    found = []
    for name in imports(disk.read(path).decode("utf-8", "replace")) if disk.is_file(path) else ():
        plain = (folder + "/" if folder else "") + name.partition(".")[0]
        for one in (plain + ".py", plain):
            parents = {one, *(one[:at] for at, letter in enumerate(one) if letter == "/")}
            if not shipped & parents and (disk.is_file(one) if one.endswith(".py") else disk.is_folder(one)):
                found.append(one)
    return list(dict.fromkeys(found))


def predefined_class(name: str) -> Class:
    """The module class of a predefined module."""
    return next(one for one in read(predefined(name)).values() if one.module)


class _Settling:
    """One module; ``here`` is where its table stands."""

    def __init__(self, module: Module, here: KeyPath, disk: Disk | None, mistakes: Mistakes, fetch: Fetch | None) -> None:
        self.module, self.here, self.disk, self.mistakes, self.fetch = module, here, disk, mistakes, fetch

    def settled(self) -> tuple[Module, Class | None]:
        module, source = self.module, None
        if module.origin is not None:
            source = self._fetched(module.origin)
        elif module.python is not None:
            source = self._beside(module.python) if is_file(module.python) else self._predefined(module.python)
        if source is None:
            # never run so: a mistake was said, or nobody asked for the declarations
            return replace(self.module, python=self.module.python or "", cls=self.module.cls or ""), None
        text, beside = source
        try:
            classes = read(text, beside)
        except NotPython as error:
            self._wrong("python" if self.module.python else "url", f"{self.module.python} cannot be read as Python: {error}", "")
            return self.module, None
        cls = self._class(classes)
        return replace(self.module, cls=cls.name if cls else self.module.cls or ""), cls

    def _wrong(self, key: str, message: str, expected: str = "", meant: str | None = "") -> None:
        self.mistakes.add((*self.here, key), message, expected, meant)

    def _predefined(self, name: str) -> tuple[str, Callable[[str], str | None]] | None:
        if name not in NAMES:
            is_there = self.disk is not None and self.disk.is_file(name + ".py")
            meant = f'"{name}.py"' if is_there else nearest(name, NAMES)
            self._wrong("python", f"there is no predefined module {name!r}", "" if meant else f"a file NAME.py, or one of {', '.join(NAMES)}", meant)
            return None
        return predefined(name), lambda module: None

    def _beside(self, path: str) -> tuple[str, Callable[[str], str | None]] | None:
        why = unsafe(path)
        if START.search(path):
            why = "holds an expression, and which module runs is the same for all jobs"
        if why:
            self._wrong("python", f"{path[:80]!r} {why}", "a file below the steering file's folder")
            return None
        if self.disk is None:
            return None
        try:
            text = self.disk.read(path).decode("utf-8-sig")
        except OSError:
            self._wrong("python", f"there is no {path!r} beside the steering file")
            return None
        except UnicodeDecodeError as error:
            self._wrong("python", f"{path!r} is not UTF-8 (byte {error.start})")
            return None
        return text, beside(path, self._read)

    def _read(self, path: str) -> str | None:
        try:
            return self.disk.read(path).decode("utf-8-sig") if self.disk is not None else None
        except (OSError, UnicodeDecodeError):
            return None

    def _fetched(self, origin: Origin) -> tuple[str, Callable[[str], str | None]] | None:
        if self.fetch is None:
            return None
        try:
            found = self.fetch(origin, self.module.python or "")
        except CannotFetch as error:
            self._wrong("url", str(error))
            return None
        self.module = replace(self.module, python=found.python, origin=found.origin)
        return found.text, found.beside

    def _class(self, classes: Mapping[str, Class]) -> Class | None:
        file = self.module.python
        modules = [one.name for one in classes.values() if one.module or one.open]
        name = self.module.cls
        if name is None:
            sure = [one.name for one in classes.values() if one.module]
            name = sure[0] if len(sure) == 1 else None
        if name is None:
            what = f"one of the classes of {file}: {', '.join(modules)}" if modules else "a class that derives from icp.pilot.module.Module"
            self.mistakes.add(self.here, f"it needs a class of {file}" if modules else f"{file} has no module class", f"class = \"...\", {what}")
            return None
        found = classes.get(name)
        if found is None:
            meant = nearest(name, modules)
            self._wrong("class", f"{file} has no class {name!r}", "" if meant else ", ".join(modules) or "a class that derives from Module", meant)
        elif not (found.module or found.open):
            self._wrong("class", f"the class {name!r} of {file} does not derive from icp.pilot.module.Module")
            return None
        return found


def beside(path: str, get: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Finds the text of a module by its dotted name from where ``path`` lies, as an import there would."""
    folder = path.rpartition("/")[0]

    def find(module: str) -> str | None:
        name = (folder + "/" if folder else "") + module.replace(".", "/")
        text = get(name + ".py")
        return get(name + "/__init__.py") if text is None else text

    return find


def check_values(cls: Class, params: Mapping[str, Any], given: Mapping[str, list[Any]]) -> list[tuple[str, str, str, str]]:
    """What is wrong with the parameters of a module: (parameter or "", message, expected, nearest).

    ``params`` as they are written, ``given`` as expressions made them for some jobs; a text of an expression may stand
    for a number, one that was written as text may not. What only the node knows (None) is text.
    """
    found = []
    for name, value in params.items():
        about = cls.parameters.get(name)
        if about is None:
            if not cls.open:
                meant = nearest(name, cls.parameters)
                expected = "" if meant else "one of " + ", ".join(cls.parameters) if cls.parameters else "none"
                found.append((name, f"{cls.name} has no parameter {name!r}", expected, meant or ""))
            continue
        for got in given.get(name, ()):
            if isinstance(value, str) and START.search(value):
                got = accept("" if got is None else got, about.types)
            expected = wrong(got, about.types, None if about.choices is None else list(about.choices)) or ""
            if expected:
                found.append((name, f"{got!r} does not fit", expected, ""))
                break
    for name, about in cls.parameters.items():
        if about.required and name not in params and not cls.open:
            expected = (wrong(object(), about.types) or "a value") + (f" ({about.help})" if about.help else "")
            found.append(("", f"{cls.name} needs the parameter {name!r}", expected, ""))
    return found
