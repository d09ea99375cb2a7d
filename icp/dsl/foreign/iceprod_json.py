"""A JSON configuration of IceProd 2 or 3, checked for its shape (hides JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from icp.errors import BadInput

__all__ = ["read"]

_TABLES = ("parameters", "batchsys", "requirements", "configs", "system")
_LISTS = ("data", "resources", "classes", "depends", "trays", "modules", "tasks")


def read(text: str, path: str) -> dict[str, Any]:
    """The configuration; BadInput with every mistake."""
    try:
        config = json.loads(text)
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply.") from None
    except ValueError as error:
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        hint = "`icp convert` takes IceProd's steering files: XML of IceProd 1, JSON of IceProd 2 and 3."
        raise BadInput(f"{path}{where} is no JSON: {getattr(error, 'msg', error)}.", hint) from None
    if isinstance(config, dict) and isinstance(config.get("config"), dict) and "tasks" not in config:
        config = config["config"]
    mistakes = tuple(f"{path}: {one}" for one in _wrong(config))
    if mistakes:
        raise BadInput(f"{path} is no configuration of IceProd.", "It has a list of tasks, each with a name and trays of modules.", mistakes)
    found: dict[str, Any] = config
    return found


def _wrong(config: Any) -> Iterator[str]:
    if not isinstance(config, dict):
        yield "it is no table { ... }"
        return
    if not isinstance(config.get("tasks"), list) or not config["tasks"]:
        yield "tasks: a list of tasks is missing"
        return
    steering = config.get("steering")
    if steering is not None:
        yield from _shape(steering, "steering")
    for name in ("options", "difplus"):
        if config.get(name) is not None and not isinstance(config[name], dict):
            yield f"{name}: a table is expected"
    for number, task in enumerate(config["tasks"]):
        place = f"tasks[{number}]"
        yield from _shape(task, place)
        for at, tray in enumerate(_list(task, "trays")):
            yield from _shape(tray, f"{place}.trays[{at}]")
            for one, module in enumerate(_list(tray, "modules")):
                yield from _shape(module, f"{place}.trays[{at}].modules[{one}]")


def _list(given: Any, name: str) -> list[Any]:
    found = given.get(name) if isinstance(given, dict) else None
    return found if isinstance(found, list) else []


def _shape(given: Any, place: str) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{place}: a table is expected"
        return
    for name in _TABLES:
        if given.get(name) not in (None, "") and not isinstance(given[name], dict):
            yield f"{place}.{name}: a table is expected"
    for name, options in (given.get("batchsys") or {}).items() if isinstance(given.get("batchsys"), dict) else ():
        if options is not None and not isinstance(options, dict):
            yield f"{place}.batchsys.{name}: a table is expected"
    for name in _LISTS:
        if given.get(name) not in (None, "") and not isinstance(given[name], list):
            yield f"{place}.{name}: a list is expected"
    for name in ("data", "resources"):
        for number, one in enumerate(_list(given, name)):
            if not isinstance(one, dict):
                yield f"{place}.{name}[{number}]: a table is expected"
