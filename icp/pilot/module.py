"""What a Python module of a tray is: declared parameters, and ``execute(stats)`` (hides how values arrive and how
statistics are kept).

    from icp.pilot.module import Module, Parameter

    class Level2(Module):
        "Keeps the events that come from below."

        infile = Parameter(str, help="events to read")
        zenith = Parameter(float, 85.0, "largest zenith angle, degrees")

        def execute(self, stats):
            stats.increment("events", 12)

Standard library only, Python 3.6 and later: it is imported by the task's own Python at a worker.
"""

import errno
import json
import math
import os
import sys
from collections.abc import MutableMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["TYPES", "Module", "Parameter", "Stats", "WrongParameter", "accept", "parameters", "wrong"]

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a table",
}
_NO_DEFAULT = object()


class WrongParameter(Exception):
    """A module was given what it does not declare; the text is one sentence."""


class Parameter:
    """One parameter, declared in the class; ``self.NAME`` is its value.

    ``type``: str, int, float, bool, list, dict, a tuple of these, or None (anything). Without a ``default`` it must be
    given. ``choices`` are the only values that it may have.
    """

    def __init__(
        self, type: "Any" = None, default: "Any" = _NO_DEFAULT, help: str = "", choices: "Any" = None
    ) -> None:
        kinds = () if type is None else type if isinstance(type, tuple) else (type,)
        for kind in kinds:
            if getattr(kind, "__name__", None) not in TYPES:
                raise TypeError(f"the type of a parameter is one of {', '.join(TYPES)}, not {kind!r}")
        self.types = tuple(kind.__name__ for kind in kinds)
        self.required = default is _NO_DEFAULT
        self.default = None if self.required else default
        self.help = help
        self.choices = None if choices is None else list(choices)
        self.name = ""

    def __set_name__(self, owner: "Any", name: str) -> None:
        self.name = name

    def __get__(self, instance: "Any", owner: "Any" = None) -> "Any":
        return self if instance is None else instance.__dict__.get(self.name, self.default)

    def __set__(self, instance: "Any", value: "Any") -> None:
        instance.__dict__[self.name] = value


def parameters(cls: "Any") -> "dict[str, Parameter]":
    """The parameters of a class and of those that it is made from, by name."""
    found: dict[str, Parameter] = {}
    for one in reversed(cls.__mro__):
        for name, value in vars(one).items():
            if isinstance(value, Parameter):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def wrong(value: "Any", types: "tuple[str, ...]", choices: "list[Any] | None" = None) -> "str | None":
    """What was expected instead of a value that does not fit its declaration; None where it fits."""
    fits = not types or any(
        type(value) is TYPES[kind] or (kind == "float" and type(value) is int) or (kind == "list" and type(value) is tuple)
        for kind in types
    )
    if not fits:
        return " or ".join(_WORDS[kind] for kind in types)
    if choices is not None and value not in choices:
        return "one of " + ", ".join(json.dumps(one) for one in choices)
    return None


def accept(value: "Any", types: "tuple[str, ...]") -> "Any":
    """The value as its declared type: a text (such as a column of a CSV file) becomes the number that it reads as, and
    a number a text where only a text will do.
    """
    if types == ("float",) and type(value) is int:
        return float(value)
    if types == ("str",) and type(value) in (int, float, bool):
        return json.dumps(value)
    if not types or not isinstance(value, str) or "str" in types:
        return value
    text = value.strip()
    for kind in types:
        try:
            if kind == "int":
                return int(text)
            if kind == "float" and math.isfinite(float(text)):
                return float(text)
        except ValueError:
            pass
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
    return value


class Module:
    """A step of a tray; a user's class derives from it, declares parameters, and has an ``execute``."""

    def __init__(self, **given: "Any") -> None:
        """Raises WrongParameter for a value that is not declared, or does not fit."""
        declared, name = parameters(type(self)), type(self).__name__
        for key, value in given.items():
            if key not in declared:
                known = ", ".join(declared) or "none"
                raise WrongParameter(f"{name} has no parameter {key!r}; it has {known}")
            about = declared[key]
            value = accept(value, about.types)
            expected = wrong(value, about.types, about.choices)
            if expected is not None:
                raise WrongParameter(f"{name}.{key} is {value!r}, expected {expected}")
            setattr(self, key, value)
        for key, about in declared.items():
            if key in given:
                continue
            if about.required:
                raise WrongParameter(f"{name} needs the parameter {key!r}")
            # A list or table of its own for each instance.
            setattr(self, key, json.loads(json.dumps(about.default)) if type(about.default) in (list, dict) else about.default)

    def execute(self, stats: "Stats") -> "int | None":
        """Does the work in the current directory. None or 0: it is done; another number, or an exception: it failed."""
        raise NotImplementedError(f"{type(self).__name__} has no execute(self, stats)")

    @classmethod
    def main(cls, words: "list[str] | None" = None) -> int:
        """Runs the module by hand, with parameters as words NAME=VALUE (JSON, or plain text); prints its statistics."""
        given = {}
        for word in sys.argv[1:] if words is None else words:
            name, _, text = word.partition("=")
            try:
                given[name] = json.loads(text)
            except ValueError:
                given[name] = text
        try:
            module = cls(**given)
        except WrongParameter as error:
            sys.stderr.write(f"{error}\n")
            return 2
        stats = Stats()
        code = exit_code(module.execute(stats), cls.__name__)
        for name in stats:
            sys.stdout.write(f"{name} {stats[name]}\n")
        return code


def exit_code(returned: "Any", name: str) -> int:
    """The exit code of what an ``execute`` returned; what it means is said on stderr."""
    if returned is None or (type(returned) is int and returned == 0):
        return 0
    if type(returned) is int:
        sys.stderr.write(f"{name}.execute returned {returned}\n")
        return returned if 0 < returned < 256 else 1
    sys.stderr.write(f"{name}.execute returned {returned!r}, expected nothing, 0, or an exit code\n")
    return 1


class Stats(MutableMapping):  # type: ignore[type-arg]  # subscripts came after 3.6
    """Statistics of a task: ``stats["name"] = number`` sets one, ``stats.increment("name", by)`` adds to it, also to
    what earlier modules and iterations of the task left there.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._added: set[str] = set()

    def increment(self, name: str, by: "Any" = 1) -> None:
        if name not in self._values:
            self._added.add(_named(name))
        self._values[name] = _number(name, self._values.get(name, 0) + by)

    def __setitem__(self, name: str, value: "Any") -> None:
        self._values[_named(name)] = _number(name, value)
        self._added.discard(name)

    def __getitem__(self, name: str) -> "Any":
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._added.discard(name)

    def __iter__(self) -> "Iterator[str]":
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def save(self, path: str) -> None:
        """Adds them to the file of a task's statistics, whatever form earlier modules gave it; OSError."""
        if not self._values:
            return
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._append(fd)
        finally:
            os.close(fd)

    def _append(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        before = os.pread(fd, size, 0).decode("utf-8", "replace") if size else ""
        if before.lstrip().startswith("{"):
            try:
                there = json.loads(before)
                for name, value in self._values.items():
                    there[name] = there.get(name, 0) + value if name in self._added else value
                text = json.dumps(there)
                os.ftruncate(fd, 0)
            except (ValueError, TypeError, AttributeError):
                return  # What is wrong with it is told when it is read.
        else:
            rows = [f"{name} {'+=' if name in self._added else '='} {value!r}\n" for name, value in self._values.items()]
            text = ("\n" if before and not before.endswith("\n") else "") + "".join(rows)
        data = text.encode("utf-8")
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _named(name: "Any") -> str:
    if not isinstance(name, str) or not name or name.split() != [name] or name.startswith("{"):
        raise ValueError(f"{name!r} cannot name a statistic: a text without blanks is needed")
    return name


def _number(name: str, value: "Any") -> "Any":
    """A whole number as int, another one as float, whatever library it comes from."""
    if isinstance(value, bool):
        raise TypeError(f"the statistic {name!r} is {value!r}, not a number")
    try:
        return value.__index__() if hasattr(value, "__index__") else _finite(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"the statistic {name!r} is {value!r}, not a number") from None


def _finite(value: "Any") -> float:
    number = float(value) if not isinstance(value, str) else math.nan
    if not math.isfinite(number):
        raise ValueError(value)
    return number
