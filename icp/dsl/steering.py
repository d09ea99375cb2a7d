"""A steering file -> Steering, or all of its mistakes at once (hides TOML)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icp.dsl.check import Mistakes, check
from icp.dsl.disk import Disk, Outputs
from icp.dsl.environments import build_software, check_used
from icp.dsl.foreign import Described, Reader, reader
from icp.dsl.jobs import build_jobs
from icp.dsl.locator import KeyPath, Position, locate
from icp.dsl.modules import Fetch, left_out, module_files, settle
from icp.dsl.names import NAME
from icp.dsl.schema import TASK_KEYS, TOP
from icp.dsl.tasks import Draft, build_tasks
from icp.dsl.texts import check_texts
from icp.dsl.urls import arrives_as
from icp.errors import BadInput, NotFound
from icp.model.definition import JobSource, Steering

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["MAIN", "described", "load", "parse"]

MAIN = "main"
"""The name of the only task of a file that has its command at the top."""

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_PIECES = re.compile(r"[^\s'\"=;|&()<>`]+")
_HINT = "docs/steering.md has every key; `icp new` prints a file to start from."
_FOREIGN_HINT = "docs/foreign.md has what is understood."


def load(path: str | Path, fetch: Fetch | None = None, outputs: Outputs | None = None) -> Steering:
    """The dataset that this file describes, with the CSV or list of files that it names read once; ``fetch`` brings the
    modules that it names by URL (None: they are not looked at), ``outputs`` finds those of other datasets (None: one job stands for them).

    NotFound when there is no such file; BadInput, with every mistake, when it is wrong.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no steering file {path}.", "`icp new > steering.toml` makes one.") from None
    except OSError as error:
        raise BadInput(f"The steering file {path} cannot be read: {error.strerror or error}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"The steering file {path} is not UTF-8 (byte {error.start}).") from None
    return parse(text, str(path), Disk(file.parent, outputs), fetch)


def parse(text: str, path: str = "steering.toml", disk: Disk | None = None, fetch: Fetch | None = None) -> Steering:
    """The dataset that this text describes; ``disk`` is what it may read beside itself (None: nothing).

    BadInput, whose ``mistakes`` are "file:line:col: key: message; expected ...; did you mean ...?", all that there are.
    """
    original, text = text, text.replace("\r\n", "\n")
    foreign = reader(text, path)
    if foreign is not None:
        return _foreign(foreign, text, original, path, disk)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refusal(path, (_syntax_mistake(path, text, str(error)),)) from None
    except RecursionError:
        raise _refusal(path, (f"{path}:1:1: this is nested too deeply",)) from None
    mistakes = Mistakes(path, locate(text))
    clean = check(data, TOP, (), mistakes)
    steering = _build(clean, data, original, path, mistakes, disk, fetch=fetch)
    if mistakes.mistakes:
        raise _refusal(path, tuple(str(mistake) for mistake in mistakes.mistakes))
    return steering


def _foreign(read: Reader, text: str, original: str, path: str, disk: Disk | None) -> Steering:
    """What another batch system's description describes; its mistakes name its own lines and words."""
    places: dict[KeyPath, Position] = {}
    mistakes = Mistakes(path, places)
    found = read(text, path, places, mistakes, disk)
    if found is not None and not len(mistakes):
        return described(found, original, path, mistakes)
    raise _refusal(path, tuple(str(mistake) for mistake in mistakes.mistakes), _FOREIGN_HINT)


def described(found: Described, text: str, path: str, mistakes: Mistakes | None = None) -> Steering:
    """The dataset of a description that is no TOML; ``text``: what is kept of it. BadInput."""
    mistakes = Mistakes(path, {}) if mistakes is None else mistakes
    clean = check(found.table, TOP, (), mistakes)
    steering = _build(clean, found.table, text, path, mistakes, None, found.jobs)
    if len(mistakes):
        raise _refusal(path, tuple(str(mistake) for mistake in mistakes.mistakes), _FOREIGN_HINT)
    return steering


def _refusal(path: str, mistakes: tuple[str, ...], hint: str = _HINT) -> BadInput:
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return BadInput(f"{path} has {count}; nothing was changed.", hint, mistakes)


def _syntax_mistake(path: str, text: str, message: str) -> str:
    match = _TOML_PLACE.search(message)
    line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    if match is not None and match.group(1):
        line, column = int(match.group(1)), int(match.group(2))
    what = message[: match.start()] if match else message
    return f"{path}:{line}:{column}: this is no TOML: {what}"


def _build(
    clean: Mapping[str, Any],
    data: Mapping[str, Any],
    text: str,
    path: str,
    mistakes: Mistakes,
    disk: Disk | None,
    foreign: JobSource | None = None,
    fetch: Fetch | None = None,
) -> Steering:
    name = _name(clean, data, path, mistakes)
    jobs = build_jobs(clean.get("jobs"), mistakes, disk, clean.get("steering", {})) if foreign is None else foreign
    drafts = build_tasks(_tables(clean, data, mistakes), mistakes)
    variables = clean.get("steering", {})
    software = build_software(clean.get("software") or {}, mistakes, disk)
    check_used(drafts, software, mistakes)
    drafts, declared = settle(drafts, disk, mistakes, fetch)
    check_texts(name, jobs, variables, drafts, software, mistakes, declared)
    named = tuple(dict.fromkeys(file for file in clean.get("files", ()) if file is not None))
    files = _shipped(named, module_files([draft.task for draft in drafts]))
    if foreign is None:
        _check_files(named, files, drafts, mistakes, disk)
    tasks = [draft.task for draft in drafts]
    return Steering(
        name=name,
        jobs=jobs,
        tasks=tuple(task for task in tasks if not task.final),
        finals=tuple(task for task in tasks if task.final),
        files=files,
        variables=variables,
        software=software,
        seed=clean.get("seed"),
        priority=clean.get("priority", 0),
        category=clean.get("category", ""),
        stop_loss=clean.get("stop_loss", 20),
        text=text,
        path=path,
        warnings=tuple(str(warning) for warning in mistakes.warnings),
    )


def _shipped(files: tuple[str, ...], modules: list[str]) -> tuple[str, ...]:
    """Files that are named, and modules that are not among them or below one of them."""
    named = {file.rstrip("/") for file in files}
    return tuple(dict.fromkeys([*files, *(one for one in modules if not named & _parents(one))]))


def _parents(path: str) -> set[str]:
    return {path, *(path[:at] for at, letter in enumerate(path) if letter == "/")}


def _name(clean: Mapping[str, Any], data: Mapping[str, Any], path: str, mistakes: Mistakes) -> str:
    if "name" in data:
        return str(clean.get("name", ""))
    stem = Path(path).stem
    if not NAME.match(stem) or len(stem) > 100:
        mistakes.add((), f"the file's name {stem[:60]!r} cannot be the dataset's", 'a line name = "..."')
    return stem


def _tables(
    clean: Mapping[str, Any], data: Mapping[str, Any], mistakes: Mistakes
) -> Iterator[tuple[str, Mapping[str, Any], KeyPath, bool]]:
    """Name, table, place, and whether it is final, of every task."""
    at_top = [key for key in TASK_KEYS if key in data and key != "software"]
    if at_top and "task" in data:
        mistakes.add(
            (at_top[0],),
            "this describes the only task of a file, and there are [task.NAME] tables",
            "it in one of them",
        )
    elif at_top:
        _check_runs(data, (), mistakes)
        main = {key: clean[key] for key in at_top if key in clean}
        names = list(clean.get("software") or {})
        if len(names) > 1:
            mistakes.add(("software",), "a command at the top runs in one environment", "a table [task.NAME] that says which")
        yield MAIN, main | {"software": names[0]} if names else main, (), False
    elif not data.get("task"):
        mistakes.add((), "there is nothing to run", 'a line command = "...", or tables [task.NAME]')
    for kind in ("task", "final"):
        for name, table in (clean.get(kind) or {}).items():
            _check_runs(data[kind][name], (kind, name), mistakes)
            yield name, table, (kind, name), kind == "final"


def _check_runs(table: Mapping[str, Any], path: KeyPath, mistakes: Mistakes) -> None:
    if "command" in table and "tray" in table:
        mistakes.add((*path, "tray"), "there is a command too", "one of the two")
    elif "command" not in table and "tray" not in table:
        mistakes.add(path, "it has nothing to run", 'command = "...", or trays of modules')
    trays = table.get("tray")
    for index, tray in enumerate(trays if isinstance(trays, list) else []):
        modules = tray.get("module") if isinstance(tray, dict) else None
        for number, module in enumerate(modules if isinstance(modules, list) else []):
            if isinstance(module, dict):
                _check_module(module, (*path, "tray", index, "module", number), mistakes)


def _check_module(module: Mapping[str, Any], path: KeyPath, mistakes: Mistakes) -> None:
    """A module is a command, a file or predefined module, or comes from a URL."""
    if not module.keys() & {"command", "python", "url"}:
        mistakes.add(path, "it has nothing to run", 'command = "...", or python = "FILE.py"')
    for key in ("python", "class", "params", "url", "rev"):
        if key in module and "command" in module:
            mistakes.add((*path, key), "there is a command too", "one of the two")
            return
    if "rev" in module and "url" not in module:
        mistakes.add((*path, "rev"), "there is no url that it belongs to", 'url = "git+https://..."')


def _check_files(
    files: tuple[str, ...], every: tuple[str, ...], drafts: list[Draft], mistakes: Mistakes, disk: Disk | None
) -> None:
    """``files`` are those that are named, ``every`` also those that are shipped because a module is in them."""
    for index, file in enumerate(files):
        parts = file.rstrip("/").split("/")
        if file.startswith("/") or ".." in parts or any(not letter.isprintable() for letter in file):
            mistakes.add(
                ("files", index), f"{file[:80]!r} is not below the steering file's folder", "a plain relative path"
            )
        elif disk is not None and not disk.exists(file):
            mistakes.add(("files", index), f"there is no {file!r} beside the steering file")
    if disk is None:
        return
    shipped = {file.rstrip("/") for file in every}
    for draft in drafts:
        for one in dict.fromkeys(module_files([draft.task])):
            for lost in left_out(one, shipped, disk):
                listed = ", ".join(f'"{file}"' for file in (*files, lost))
                mistakes.warn(
                    draft.path, f"{one} imports {lost}, which is not shipped; add the line: files = [{listed}]"
                )
        own = {output.name for output in draft.task.outputs} | {ref.output for ref in draft.task.inputs}
        own |= {arrives_as(one) for one in draft.task.fetches}
        for tray in draft.task.trays:
            for module in tray.modules:
                text = module.command if isinstance(module.command, str) else "\n".join(module.command)
                for word in dict.fromkeys(_PIECES.findall(text)):
                    if _left_behind(word, shipped, own, disk):
                        _warn_file(word, files, draft.path, mistakes)


def _left_behind(word: str, shipped: set[str], own: set[str], disk: Disk) -> bool:
    if "$" in word or word.startswith(("/", "-")) or ".." in word or len(word) > 255 or word in own:
        return False
    plain = word.removeprefix("./").rstrip("/")
    return bool(plain) and not shipped & _parents(plain) and disk.is_file(plain)


def _warn_file(word: str, files: tuple[str, ...], path: KeyPath, mistakes: Mistakes) -> None:
    listed = ", ".join(f'"{file}"' for file in (*files, word.removeprefix("./")))
    mistakes.warn(
        (*path, "command"), f"{word} lies beside the steering file and is not shipped; add the line: files = [{listed}]"
    )
