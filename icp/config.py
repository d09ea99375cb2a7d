"""Where things are, and what config.toml says of sites and policy (hides XDG, ICP_HOME and the file's syntax)."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from icp.errors import BadInput
from icp.model.plan import PilotSpec, Policy
from icp.places import Places, check_host, places

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "Config", "Key", "Places", "Site", "explain", "find_key", "load", "places", "set_value", "values"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration; ``*`` stands for a name of the user's."""

    path: str
    kind: str
    """``text``, ``path``, ``number``, ``count``, ``bool``, ``size`` (bytes or "2 GB"), ``time`` (seconds or "2 h"), ``any``, ``times``"""
    default: Any
    doc: str


_POLICY_DOC = {
    "depth": "seconds of work that wait at a site for each of its slots",
    "card_seconds": "seconds of work in one card, once a task definition's run time is known",
    "card_tasks": "attempts in one card at the most",
    "queue_tasks": "attempts that wait at one site at the most",
    "tick_tasks": "attempts that one tick deals to one site at the most",
    "release_jobs": "jobs that become rows in one tick at the most",
    "silent": "observed seconds without a word after which an agent is suspect",
    "gap": "what the time between two exchanges counts for at the most, in seconds",
    "margin": "seconds after its walltime at which an agent cannot be alive",
    "queued": "observed seconds after which an unclaimed card is recalled",
    "claimed": "observed seconds after which a claimed attempt that did not begin is cancelled",
    "copying": "observed seconds after which an attempt that only copies is cancelled",
    "retention": "seconds that journals stay at a site after they were read",
    "backoff": "seconds before the next try, by the number of failures",
}

KEYS: tuple[Key, ...] = (
    Key("ledger.path", "path", None, "the ledger's file, where it shall not be in the data directory (say on a disk of this host)"),
    Key("run.pause_local", "number", 1.0, "seconds between ticks while this machine has work of ours"),
    Key("run.pause", "number", 30.0, "seconds between ticks otherwise"),
    *(
        Key(f"policy.{one.name}", "times" if one.name == "backoff" else "number", one.default, _POLICY_DOC[one.name])
        for one in fields(Policy)
    ),
    Key("site.*.root", "path", None, "directory below which the site's spool is made"),
    Key("site.*.zone", "text", None, "sites of one zone share fast storage (default: the site's own name)"),
    Key("site.*.paused", "text", None, "no cards and no pilots, for this reason"),
    Key("site.*.scratch", "path", None, "directory for the work of tasks on a node (default: $TMPDIR or /tmp)"),
    Key("site.*.attributes.*", "any", None, "what `$attr(NAME)` is at this site; wins over what an agent finds"),
    Key("site.*.system.*", "any", None, "what `$system(NAME)` is at this site"),
    Key("site.*.env.*", "text", None, "an environment variable of the site's pilots and tasks"),
    Key("site.*.pilot.cpus", "count", None, "cpus of one pilot (default: all that it may use)"),
    Key("site.*.pilot.memory", "size", None, "memory of one pilot (default: what its node has)"),
    Key("site.*.pilot.disk", "size", None, "disk of one pilot (default: what its scratch has free)"),
    Key("site.*.pilot.gpus", "count", None, "gpus of one pilot (default: those that it finds)"),
    Key("site.*.pilot.walltime", "time", None, "seconds after which a pilot ends (default: no end)"),
    Key("site.*.pilot.max", "count", 1, "pilots at once"),
    Key("site.*.pilot.max_pending", "count", 1, "pilots that wait to start, at once"),
    Key("site.*.pilot.idle", "number", 60.0, "seconds without work after which a pilot leaves"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """One allocation, as configured."""

    name: str
    zone: str
    root: Path | None
    attributes: Mapping[str, Any]
    system: Mapping[str, Any]
    env: Mapping[str, str]
    scratch: Path | None
    paused: str | None
    pilot: PilotSpec


@dataclass(frozen=True, slots=True)
class Config:
    places: Places
    ledger: Path
    sites: Mapping[str, Site]
    policy: Policy
    pause_local: float
    pause: float


_SIZES = {"": 10**6, "B": 1, **{f"{p}B": 10 ** (3 * i) for i, p in enumerate("KMGT", 1)}, **{f"{p}iB": 2 ** (10 * i) for i, p in enumerate("KMGT", 1)}}
_TIMES = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def _quantity(value: Any, units: Mapping[str, int], what: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return int(value * units[""])
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", str(value).strip())
    if match and match[2] in units:
        try:
            return int(float(match[1]) * units[match[2]])
        except ValueError:
            pass
    raise ValueError(f"expected {what}")


def _checked(kind: str, value: Any) -> Any:
    """The value as its kind wants it, or ValueError with what was expected."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "path" and isinstance(value, str) and value:
        path = Path(value).expanduser()
        if not path.is_absolute():
            raise ValueError("expected an absolute path")
        return path
    if kind == "number" and number and value >= 0:
        return value
    if kind == "count" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "size":
        return _quantity(value, _SIZES, 'a size such as "2 GB", or a number of MB')
    if kind == "time":
        return _quantity(value, _TIMES, 'a time such as "2 h", or a number of seconds')
    if kind == "times" and isinstance(value, list) and value and all(isinstance(one, (int, float)) and one >= 0 for one in value):
        return tuple(value)
    if kind == "any" and isinstance(value, (str, int, float, bool)):
        return value
    expected = {"text": "text", "path": "a path as text", "number": "a number", "count": "a whole number", "bool": "true or false",
                "times": "a list of seconds", "any": "text, a number, true or false"}  # fmt: skip
    raise ValueError(f"expected {expected[kind]}")


def find_key(path: str) -> Key | None:
    """The key that this dotted path is one of."""
    parts = path.split(".")
    for key in KEYS:
        names = key.path.split(".")
        if len(names) == len(parts) and all(name in ("*", part) for name, part in zip(names, parts, strict=True)):
            return key
    return None


def _nearest(path: str) -> str:
    known = [key.path for key in KEYS]
    parts = path.split(".")
    if parts[0] == "site" and len(parts) > 1:
        known = [key.path.replace("site.*", f"site.{parts[1]}", 1) for key in KEYS if key.path.startswith("site.")]
    found = difflib.get_close_matches(path, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


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
            mistakes.append(f"{where.config}: {path}: no such key{_nearest(path)}")
            continue
        try:
            found[path] = _checked(key.kind, value)
        except ValueError as error:
            mistakes.append(f"{where.config}: {path} = {value!r}: {error}")
    if mistakes:
        raise BadInput(f"{where.config} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}", "`icp config explain` lists the keys", tuple(mistakes))
    return found


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The configuration; where no site is configured, this machine is the one site, named ``local``."""
    where = places(environ)
    said = values(where)
    names = list(dict.fromkeys(path.split(".")[1] for path in said if path.startswith("site."))) or ["local"]

    def table(prefix: str) -> dict[str, Any]:
        return {path[len(prefix) :]: value for path, value in said.items() if path.startswith(prefix)}

    sites = {}
    for name in names:
        if name != "local":
            raise BadInput(
                f"{where.config}: site.{name}: this release runs on this machine only, as site `local`",
                "rename the table to [site.local]",
            )
        own = table(f"site.{name}.")
        pilot = {key.removeprefix("pilot."): value for key, value in own.items() if key.startswith("pilot.")}
        pilot.setdefault("cpus", len(os.sched_getaffinity(0)))
        sites[name] = Site(
            name=name,
            zone=own.get("zone", name),
            root=own.get("root"),
            attributes=table(f"site.{name}.attributes."),
            system=table(f"site.{name}.system."),
            env=table(f"site.{name}.env."),
            scratch=own.get("scratch"),
            paused=own.get("paused"),
            pilot=PilotSpec(**pilot),
        )
    ledger = said.get("ledger.path", where.ledger)
    check_host(where, ledger)
    return Config(
        places=where,
        ledger=ledger,
        sites=sites,
        policy=Policy(**table("policy.")),
        pause_local=float(said.get("run.pause_local", 1.0)),
        pause=float(said.get("run.pause", 30.0)),
    )


def explain(path: str) -> Key:
    """The key; BadInput names the nearest one."""
    key = find_key(path)
    if key is None:
        raise BadInput(f"there is no key {path}{_nearest(path)}", "`icp config explain` lists them")
    return key


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
        _checked(key.kind, value)
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
