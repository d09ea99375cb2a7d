"""An IceProd configuration, XML of IceProd 1 or JSON of IceProd 2 and 3, as the text of a steering file (hides the order of its parts)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from icp.dsl.foreign.iceprod_json import read as read_json
from icp.dsl.foreign.iceprod_names import Note, Scope, Variables
from icp.dsl.foreign.iceprod_needs import batch_options
from icp.dsl.foreign.iceprod_tasks import CALL_CLASS, Tasks
from icp.dsl.foreign.iceprod_xml import read as read_xml
from icp.dsl.foreign.toml_text import Comment, comment, key, table, value

__all__ = ["Converted", "Note", "convert"]


@dataclass(frozen=True, slots=True)
class Converted:
    """A steering file's text, and what a person must look at."""

    text: str
    notes: tuple[Note, ...]
    jobs: int
    tasks: int


def convert(text: str, path: str, jobs: int | None = None, dataset: int | None = None, port: bool = False) -> Converted:
    """``jobs`` and ``dataset`` are what IceProd's configuration does not hold: how many, and its number. BadInput.

    ``port``: classes of IceProd 1 are to be written anew, as modules of ours; otherwise they are called as they are.
    """
    xml = text.lstrip("\ufeff \t\r\n").startswith("<")
    config = read_xml(text, path) if xml else read_json(text, path)
    version = 1.0 if xml and not config.get("strict") else _version(config)
    steering = config.get("steering") or {}
    options: Mapping[str, Any] = config.get("options") or {}
    about: dict[str, Any] = {name: config[name] for name in ("version", "description") if name in config}
    metadata = _flat(config.get("difplus") or {})
    variables = Variables(version >= 2, options, steering.get("system") or {}, metadata, about, dataset)
    scope = Scope(variables, "steering", ()).inside("steering", steering.get("parameters") or {})
    name = _name(path)
    for note in config.get("notes", ()):
        scope.at(note[0]).note("NOT CONVERTED", note[1])
    head = _head(config, path, scope)
    base = [*({"movement": "input", **one, "type": "resource"} for one in steering.get("resources") or ()), *(steering.get("data") or ())]
    given = config.get("tasks") or ()
    before = len(variables.notes)
    shared = batch_options(steering.get("batchsys") or {}, scope.at("steering"))
    head += map(str, variables.notes[before:])
    tasks = Tasks(given, scope, base, version, shared, port)
    body = tasks.lines()
    for option in options:
        if option not in ("dataset", "jobs_submitted") and option not in variables.used_options():
            variables.option(option, scope)
    for one in variables.system:
        scope.find("system", one)
    entries = variables.table()
    if tasks.call_class:
        entries["\0call"] = Comment("calls a class of IceProd 1: SetParameter for each parameter, then Execute")
        entries["call_class"] = CALL_CLASS
    count = jobs or _jobs(options, scope, head)
    lines = [*(line for one in head for line in comment(one)), "", f"name = {value(name)}", f"jobs = {count}"]
    if entries:
        lines += ["", "[steering]", *table(entries)]
    software = {**{one: {} for one in config.get("software") or {}}, **tasks.software}
    for one, keys in software.items():
        lines += ["", f"[{key('software', one)}]"]
        if not keys:
            note = scope.at(f"software.{one}").note("CHECK", f"metaproject {config['software'][one]}: say where it is, with cvmfs, shell or tarball")
            lines += comment(str(note))
        lines += table(keys)
    return Converted("\n".join([*lines, *body]) + "\n", tuple(variables.notes), count, len(given))


def _head(config: Mapping[str, Any], path: str, scope: Scope) -> list[str]:
    head = [f"Converted from {PurePath(path).name} (IceProd) by `icp convert`.",
            "CHECK marks what may differ from IceProd, NOT CONVERTED what has no counterpart."]  # fmt: skip
    if config.get("description"):
        head += ["", *str(config["description"]).strip().splitlines()]
    if config.get("categories"):
        head += ["", "categories: " + ", ".join(map(str, config["categories"]))]
    if config.get("difplus"):
        note = scope.at("difplus").note("NOT CONVERTED", f"difplus = {json.dumps(config['difplus'])}: kept here, and $metadata(...) has its values")
        head += ["", str(note)]
    known = {"version", "description", "options", "steering", "tasks", "difplus", "categories", "notes", "software", "strict", "dataset", "parent_id"}
    rest = [(name, config[name]) for name in config if name not in known and config[name] not in (None, "", [], {}, 0)]
    inner = {"parameters", "batchsys", "data", "system", "resources"}
    rest += [(f"steering.{name}", one) for name, one in (config.get("steering") or {}).items() if name not in inner and one not in (None, "", [], {})]
    for name, one in rest:
        head.append(str(scope.at(name).note("NOT CONVERTED", f"{name} = {json.dumps(one)}")))
    for _, text in config.get("notes", ()):
        head.append(f"NOT CONVERTED: {text}")
    if any(module.get("env_clear") for task in config.get("tasks") or () for tray in task.get("trays") or () for module in tray.get("modules") or ()):
        note = scope.at("env_clear").note("CHECK", "env_clear: IceProd empties the environment before a module; here a task has that of the agent")
        head += ["", str(note)]
    return head


def _jobs(options: Mapping[str, Any], scope: Scope, head: list[str]) -> int:
    given = options.get("jobs_submitted")
    if isinstance(given, int) and given > 0:
        return given
    note = scope.at("jobs").note("CHECK", "jobs = 1: an IceProd configuration does not say how many; icp convert --jobs N writes it")
    head += ["", str(note)]
    return 1


def _version(config: Mapping[str, Any]) -> float:
    given = config.get("version", 3)
    version = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else 3.0
    # both IceProd 2 and the first IceProd 3 wrote "version": 3; what only the former knew tells
    return 3.0 if version > 3 else 2.0


def _flat(difplus: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("plus", "dif"):
        found.update(difplus.get(part) or {})
    return found


def _name(path: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(path).stem).lstrip(".-")[:100]
    return stem or "dataset"
