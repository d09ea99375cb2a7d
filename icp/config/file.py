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

__all__ = ["set_value", "values"]


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
    if dict(_leaves(tomllib.loads(after))) != {**dict(_leaves(tomllib.loads(before))), path: value}:
        raise BadInput(f"{where.config} is written in a way that cannot be edited safely", f"add `{path} = {_toml(value)}` by hand")
    where.config.parent.mkdir(parents=True, exist_ok=True)
    part = where.config.with_name(f".{where.config.name}.{os.getpid()}")
    part.write_text(after)
    part.replace(where.config)


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
