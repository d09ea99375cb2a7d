"""Every key of config.toml, once, as data: what it may hold, its default, what it means (hides nothing: this is the list)."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from icp.errors import BadInput
from icp.model.plan import Policy

__all__ = ["KEYS", "NAME", "Key", "checked", "explain", "find_key", "nearest"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
MODES = ("pilots", "direct")
EVENTS = ("complete", "stop-loss", "paused", "login", "no-tick")
"""What a person can be told of: a dataset is complete, or suspended by its stop-loss; the engine paused a site; a site needs a person's login;
nobody ticked for an hour."""
SCHEDULERS = ("none", "slurm", "sge", "condor", "pbs", "torque", "lsf")
# batch systems and Parsl quote nothing: variables of the site's own are all that may be expanded
_PLACE = re.compile(r"(?:~|[/$][\w./${}+@:,=-]*)\Z|~/[\w./+@:,=-]*\Z")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration; ``*`` stands for a name of the user's."""

    path: str
    kind: str
    """``text``, ``path``, ``number``, ``count``, ``bool``, ``size`` (bytes or "2 GB"), ``time`` (seconds or "2 h"), ``any``, ``times``,
    ``texts``, ``command`` (a command line), ``ways``, ``repositories``, ``shipments``, ``sha256``, ``host``, ``scheduler``, ``mode``, ``place`` (an
    absolute path at the site), ``events``"""
    default: Any
    doc: str


WAYS = ("mounted", "cvmfsexec", "parrot", "bwrap", "proot", "parrot-copy", "tarball")
"""Of ``icp.pilot.ways``, which is not imported for its names alone (a test holds them together)."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LISTS = {
    "ways": re.compile(rf"(?:{'|'.join(WAYS)})\Z"),
    "repositories": re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*:[a-z_]+=[^\s,'\"]+(?:,[a-z_]+=[^\s,'\"]+)*\Z"),
    "shipments": re.compile(r"[A-Za-z0-9_]+ [^\s'\"]+ [0-9a-f]{64}\Z"),
}

_POLICY_DOC = {
    "depth": "seconds of work that wait at a site for each of its slots",
    "stay": "seconds within which the zone of its inputs shall begin a task; what it cannot begin goes to another zone",
    "card_seconds": "seconds of work in one card, once a task definition's run time is known",
    "direct_seconds": "seconds of work in one batch job at a site without pilots, once a task definition's run time is known",
    "card_tasks": "attempts in one card at the most",
    "queue_tasks": "attempts that wait at one site at the most",
    "tick_tasks": "attempts that one tick deals to one site at the most",
    "release_jobs": "jobs that become rows in one tick at the most",
    "silent": "observed seconds without a word after which an agent is suspect",
    "gap": "what the time between two exchanges counts for at the most, in seconds",
    "pending": "observed seconds after which a pilot that has not started keeps no work from other sites",
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
    Key("transfer.*.get", "command", None, "what fetches a URL of this scheme at a worker, `{url}` and `{file}` in it (docs/transfers.md)"),
    Key("transfer.*.put", "command", None, "what stores a file under a URL of this scheme, `{file}` and `{url}` in it"),
    Key("ssh.config", "path", None, "an ssh_config to use instead of ~/.ssh/config"),
    Key("ssh.connect_timeout", "number", 15.0, "seconds that a host has to accept a connection"),
    Key("ssh.persist", "time", 600.0, "seconds that the shared connection to a host stays open without work"),
    Key("notify.command", "text", None, "a command of sh that tells you of an event; it gets that as JSON on stdin, once (docs/unattended.md)"),
    Key("notify.events", "events", EVENTS, f"the events that it is called for, of {', '.join(EVENTS)}"),
    Key("notify.timeout", "time", 30.0, "seconds after which it is ended"),
    Key("site.*.host", "host", None, "what you type after `ssh`: an alias of ~/.ssh/config, or user@host (default: this machine)"),
    Key("site.*.scheduler", "scheduler", "none", f"the batch system there: {', '.join(SCHEDULERS)}, or a plug-in's; none: pilots run on the host itself"),
    Key("site.*.mode", "mode", "pilots", "pilots, or direct where the centre forbids them: each batch job runs one card and leaves (docs/sites.md)"),
    Key("site.*.shared", "bool", True, "whether workers see the spool; false: cards and outputs travel with the batch jobs, which are then direct (condor)"),
    Key("site.*.root", "place", None, "directory at the site below which its spool is made; login node and workers must see it (needed with `host`)"),
    Key("site.*.zone", "text", None, "sites of one zone share fast storage (default: the host)"),
    Key("site.*.scratch", "place", None, "directory for the work of tasks on a node; `$USER` and the like are expanded there (default: $TMPDIR or /tmp)"),
    Key("site.*.python", "place", None, "the Python (3.6 or newer) there, an absolute path (default: looked for in the usual places)"),
    Key("site.*.modules", "texts", (), "modules that a pilot loads before it looks for Python"),
    Key("site.*.setup", "texts", (), "lines of POSIX sh that a pilot runs before it begins"),
    Key("site.*.pythons", "shipments", (), "Pythons to unpack where a node has none, by machine: \"x86_64 URL SHA256\" (docs/software.md)"),
    Key("site.*.software.ways", "ways", (), f"ways to /cvmfs that are tried, in this order (default: {', '.join(WAYS)})"),
    Key("site.*.software.forbid", "ways", (), "ways to /cvmfs that are not taken there"),
    Key("site.*.software.cvmfsexec", "text", None, "cvmfsexec: a path at the site, or a URL from which it is fetched here and shipped"),
    Key("site.*.software.cvmfsexec_sha256", "sha256", None, "its checksum, where it is shipped"),
    Key("site.*.software.parrot_run", "text", None, "parrot_run: a path at the site, or the URL of it or of a tarball that holds it, fetched here and shipped"),
    Key("site.*.software.parrot_run_sha256", "sha256", None, "its checksum, where it is shipped"),
    Key("site.*.software.proxies", "text", "DIRECT", "proxies of CVMFS, in its own words: `http://a:3128;DIRECT`"),
    Key("site.*.software.repositories", "repositories", (), "repositories that clients do not know: \"REPO:url=URL1;URL2,pubkey=/path/of/key.pub\""),
    Key("site.*.software.cache", "place", None, "node-local directory for the caches of CVMFS (default: the agent's scratch)"),
    Key("site.*.software.quota", "size", None, "size of such a cache at the most, for each task at once (default: the client's)"),
    Key("site.*.software.alien_cache", "place", None, "directory that all nodes share, with files of CVMFS by content"),
    Key("site.*.software.tree", "place", None, "directory at the site with copies of repositories, each in a folder of its name"),
    Key("site.*.software.patience", "time", 60, "seconds that a way has to show a repository before it is given up"),
    Key("site.*.accounting", "bool", None, "whether the batch system's accounting can be asked (default: found out)"),
    Key("site.*.attributes.*", "any", None, "what `$attr(NAME)` is at this site; wins over what an agent finds"),
    Key("site.*.system.*", "any", None, "what `$system(NAME)` is at this site"),
    Key("site.*.env.*", "text", None, "an environment variable of the site's pilots and tasks, and of our commands at its login node"),
    Key("site.*.cache.size", "size", 20 * 10**9, "what the cache of fetched files at the site may hold (docs/transfers.md); 0: there is none"),
    Key("site.*.cache.root", "place", None, "directory of that cache, which workers must see; variables are expanded (default: in the spool)"),
    Key("site.*.transfer.*.get", "command", None, "what fetches a URL of this scheme at this site, where that is not `transfer.*.get`"),
    Key("site.*.transfer.*.put", "command", None, "what stores a file under a URL of this scheme at this site, where that is not `transfer.*.put`"),
    Key("site.*.pilot.nodes", "count", 1, "nodes of one pilot; each has an agent of its own"),
    Key("site.*.pilot.cpus", "count", None, "cpus of one pilot on each node (default: all that it may use; with a batch system what that gives)"),
    Key("site.*.pilot.memory", "size", None, "memory of one pilot on each node (default: what it gets)"),
    Key("site.*.pilot.disk", "size", None, "disk of one pilot on each node (default: what its scratch has free)"),
    Key("site.*.pilot.gpus", "count", None, "gpus of one pilot on each node (default: those that it finds)"),
    Key("site.*.pilot.walltime", "time", None, "seconds after which a pilot ends (default: no end; with a batch system 2 h)"),
    Key("site.*.pilot.partition", "text", None, "partition or queue"),
    Key("site.*.pilot.account", "text", None, "account or project that is charged"),
    Key("site.*.pilot.qos", "text", None, "quality of service"),
    Key("site.*.pilot.constraint", "text", None, "features that a node must have"),
    Key("site.*.pilot.max", "count", 1, "pilots at once"),
    Key("site.*.pilot.max_pending", "count", 1, "pilots that wait to start, at once"),
    Key("site.*.pilot.rate", "count", 120, "pilots submitted within an hour at the most"),
    Key("site.*.pilot.idle", "number", 60.0, "seconds without work after which a pilot leaves"),
    Key("site.*.pilot.options.*", "any", None, "an option of the batch system (docs/batch-systems.md), or of Parsl's provider for it, by its name there"),
)


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


def _command(text: str) -> tuple[str, ...]:
    """The words of a command line; no shell will ever see it."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if not words or not all(any(mark in word for word in words[1:]) for mark in ("{url}", "{file}")):
        raise ValueError("expected a command line with {url} and {file} in it")
    return words


def _plug_ins() -> list[str]:
    """Batch systems that others wrote (docs/plugins.md)."""
    from importlib.metadata import entry_points

    return [one.name for one in entry_points(group="icp.batch_systems")]


def checked(kind: str, value: Any) -> Any:
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
    if kind == "texts" and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if kind == "events" and isinstance(value, list) and set(value) <= set(EVENTS):
        return tuple(value)
    if kind == "host" and isinstance(value, str) and HOST.match(value):
        return value
    if kind == "command" and isinstance(value, str):
        return _command(value)
    if kind == "scheduler" and isinstance(value, str) and (value in SCHEDULERS or value in _plug_ins()):
        return value
    if kind == "mode" and value in MODES:
        return value
    if kind == "sha256" and isinstance(value, str) and _SHA256.match(value):
        return value
    if kind in _LISTS and isinstance(value, list) and all(isinstance(one, str) and _LISTS[kind].match(one) for one in value):
        return tuple(value)
    if kind == "place" and isinstance(value, str) and _PLACE.match(value):
        return value
    expected = {"sha256": "64 hexadecimal digits", "ways": f"a list of some of {', '.join(WAYS)}",
                "repositories": 'a list of "REPOSITORY:url=URL1;URL2,pubkey=/path/at/the/site"',
                "shipments": 'a list of "MACHINE URL SHA256", where MACHINE is what `uname -m` says',
                "texts": "a list of texts", "events": f"a list of some of {', '.join(EVENTS)}",
                "host": "what you would type after `ssh`: an alias, or user@host",
                "scheduler": f"one of {', '.join(SCHEDULERS)}",
                "mode": f"one of {', '.join(MODES)}", "place": "an absolute path without blanks, quotes or characters of the shell",
                "text": "text", "path": "a path as text", "number": "a number", "count": "a whole number", "bool": "true or false",
                "command": "a command line as text", "times": "a list of seconds", "any": "text, a number, true or false"}  # fmt: skip
    raise ValueError(f"expected {expected[kind]}")


def find_key(path: str) -> Key | None:
    """The key that this dotted path is one of."""
    parts = path.split(".")
    for key in KEYS:
        names = key.path.split(".")
        if len(names) == len(parts) and all(name in ("*", part) for name, part in zip(names, parts, strict=True)):
            return key
    return None


def nearest(path: str) -> str:
    known = [key.path for key in KEYS]
    parts = path.split(".")
    if parts[0] == "site" and len(parts) > 1:
        known = [key.path.replace("site.*", f"site.{parts[1]}", 1) for key in KEYS if key.path.startswith("site.")]
    found = difflib.get_close_matches(path, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def explain(path: str) -> Key:
    """The key; BadInput names the nearest one."""
    key = find_key(path)
    if key is None:
        raise BadInput(f"there is no key {path}{nearest(path)}", "`icp config explain` lists them")
    return key
