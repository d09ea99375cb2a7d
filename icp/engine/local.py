"""This machine as a site: the text of a pilot's script, how it is started, asked for and ended (hides the backend ``none``)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from icp.backends.spool_client import LocalSpool
from icp.config import Site

__all__ = ["kill_argv", "parse_status", "pilot_files", "status_argv", "submit_argv"]


def pilot_script(site: Site, spool: LocalSpool, ledger: str, pilot: str) -> str:
    """The batch job of one pilot, in POSIX sh."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(site.env.items()))
    command = shlex.join([spool.python, "-I", "-S", str(spool.program), "run", "--spool", str(spool.root), "--pilot", pilot])
    return f"#!/bin/sh\n# icp-{ledger[:8]}-{pilot}\n{exports}exec {command}\n"


def pilot_files(site: Site, spool: LocalSpool, ledger: str, pilot: str) -> dict[str, str]:
    """What lies in the pilot's folder before it starts."""
    spec = site.pilot
    described: dict[str, Any] = {
        "pilot": pilot,
        "ledger": ledger,
        "idle": spec.idle,
        "end": None,
        "walltime": spec.walltime,
        "scratch": None if site.scratch is None else str(site.scratch),
        "attrs": dict(site.attributes),
        "cpus": spec.cpus,
        "memory": spec.memory,
        "disk": spec.disk,
        "gpus": spec.gpus,
        "heartbeat": 30,
    }
    return {"submit.sh": pilot_script(site, spool, ledger, pilot), "pilot.json": json.dumps(described, sort_keys=True)}


def submit_argv() -> list[str]:
    return ["{python}", "-I", "-S", "{program}", "launch", "{dir}"]


def kill_argv() -> list[str]:
    return ["{python}", "-I", "-S", "{program}", "kill", "{dir}"]


def status_argv() -> list[str]:
    return ["{python}", "-I", "-S", "{program}", "ps", "{spool}/pilots"]


def parse_status(answers: Sequence[tuple[int | None, str]]) -> dict[str, tuple[str, int | None]] | None:
    """pilot -> (word, exit) from what ``ps`` printed; None when it could not be asked."""
    if not answers or answers[0][0] != 0:
        return None
    found: dict[str, tuple[str, int | None]] = {}
    for line in answers[0][1].splitlines():
        try:
            row = json.loads(line)
            found[str(row["pilot"])] = (str(row["state"]), row["exit"])
        except (ValueError, KeyError, TypeError):
            return None
    return found
