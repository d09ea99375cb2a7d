"""config.toml itself: read with every mistake at once, edited key by key with the rest of it as it is (hides TOML)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icp.config.keys import NAME, checked, explain, find_key, nearest
from icp.errors import BadInput
from icp.places import Places

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["add_table", "remove_table", "set_value", "table_text", "values"]


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def values(where: Places) -> dict[str, Any]:
    """All keys that the file sets, checked: dotted path -> value. BadInput names every mistake."""
    table = _read(where.config)
    found: dict[str, Any] = {}
    mistakes: list[str] = []
    for name in table.get("site", {}) if isinstance(table.get("site", {}), dict) else ():
        if not NAME.match(name):
            mistakes.append(f"{where.config}: site.{name}: expected a name of letters, digits, '.', '_' and '-'")
    for path, value in _leaves(table):
        key = find_key(path)
        if key is None:
            mistakes.append(f"{where.config}: {path}: no such key{nearest(path)}")
            continue
        try:
            found[path] = checked(key.kind, value)
        except ValueError as error:
            mistakes.append(f"{where.config}: {path} = {value!r}: {error}")
    if mistakes:
        raise BadInput(f"{where.config} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}", "`icp config explain` lists the keys", tuple(mistakes))
    return found


def set_value(where: Places, path: str, text: str) -> None:
    """Set one key in the file, leaving the rest of it, comments too, as it is. ``text`` is TOML, or plain text where the key wants text."""
    key = explain(path)
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value = text
    if key.kind in ("text", "path") and not isinstance(value, str):
        value = text
    try:
        checked(key.kind, value)
    except ValueError as error:
        raise BadInput(f"{path} = {text}: {error}") from None
    table, _, name = path.rpartition(".")
    before = where.config.read_text() if where.config.exists() else ""
    after = _edited(before, table, name, _toml(value))
    _write(where, after, {**dict(_leaves(tomllib.loads(before))), path: value}, f"add `{path} = {_toml(value)}` by hand")


def table_text(name: str, keys: Mapping[str, Any]) -> str:
    """A table ``[name]`` and those below it as TOML; ``keys`` are dotted paths below ``name``."""
    tables: dict[str, list[str]] = {}
    for path, value in keys.items():
        below, _, last = path.rpartition(".")
        tables.setdefault(f"{name}.{below}" if below else name, []).append(f"{last} = {_toml(value)}")
    return "\n\n".join("\n".join([f"[{table}]", *lines]) for table, lines in tables.items()) + "\n"


def add_table(where: Places, name: str, keys: Mapping[str, Any]) -> None:
    """Append a table that the file does not have, in one step; everything else stays as it is. BadInput names every mistake."""
    mistakes = []
    for path, value in keys.items():
        try:
            checked(explain(f"{name}.{path}").kind, value)
        except ValueError as error:
            mistakes.append(f"{name}.{path} = {value!r}: {error}")
    if mistakes:
        raise BadInput(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} values cannot be configured", None, tuple(mistakes[1:] and mistakes))
    before = where.config.read_text() if where.config.exists() else ""
    text = table_text(name, keys)
    after = before.rstrip("\n") + "\n\n" * bool(before.strip()) + text
    _write(where, after, {**dict(_leaves(tomllib.loads(before))), **{f"{name}.{path}": value for path, value in keys.items()}}, f"add by hand:\n{text}")


def remove_table(where: Places, name: str) -> bool:
    """Take a table and those below it out of the file; False if it is not there. What is written about the next table stays with that."""
    before = where.config.read_text() if where.config.exists() else ""
    leaves = dict(_leaves(tomllib.loads(before)))
    left = {path: value for path, value in leaves.items() if not path.startswith(f"{name}.")}
    lines = before.splitlines()
    heads = [i for i, line in enumerate(lines) if line.lstrip().startswith("[")]
    gone: set[int] = set()
    for i, end in zip(heads, [*heads[1:], len(lines)][: len(heads)], strict=True):
        title = lines[i].split("#")[0].strip().strip("[]").strip()
        if title == name or title.startswith(f"{name}."):
            while end < len(lines) and end - 1 > i and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
                end -= 1
            gone |= set(range(i, end))
    if not gone and left == leaves:
        return False
    kept = [line for i, line in enumerate(lines) if i not in gone]
    while kept and not kept[-1].strip():
        kept.pop()
    after = re.sub(r"\n{3,}", "\n\n", "\n".join([*kept, ""])) if kept else ""
    _write(where, after, left, f"remove [{name}] by hand")
    return True


def _write(where: Places, after: str, wanted: Mapping[str, Any], by_hand: str) -> None:
    """Put the edited file in place of the old one, if it says just what is wanted."""
    try:
        found = dict(_leaves(tomllib.loads(after)))
    except tomllib.TOMLDecodeError:
        found = None
    if found is None or {path: _plain(value) for path, value in found.items()} != {path: _plain(value) for path, value in wanted.items()}:
        raise BadInput(f"{where.config} is written in a way that cannot be edited safely", by_hand)
    target = where.config.resolve()  # the file may be a link into somebody's collection of them
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(after)
        if target.exists():
            part.chmod(target.stat().st_mode & 0o777)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{where.config} cannot be written: {error.strerror}", "nothing was changed") from None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _edited(text: str, table: str, name: str, value: str) -> str:
    lines = text.splitlines()
    header = next((i for i, line in enumerate(lines) if line.split("#")[0].strip() == f"[{table}]"), None)
    if header is None:
        return "\n".join([*lines, *([""] if lines else []), f"[{table}]", f"{name} = {value}", ""])
    end = next((i for i in range(header + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    for i in range(header + 1, end):
        if re.match(rf"\s*{re.escape(name)}\s*=", lines[i]):
            lines[i] = f"{name} = {value}"
            return "\n".join([*lines, ""])
    return "\n".join([*lines[: header + 1], f"{name} = {value}", *lines[header + 1 :], ""])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
