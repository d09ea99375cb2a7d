"""Tasks per second of one agent on two slots with /bin/true, beside a bare posix_spawn loop in the same run.

python bench/agent_noop.py [--tasks 10000] [--cards 200] [--rounds 3] [--python PYTHON]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.backends import ship
from icp.pilot import spool

LEDGER = "5a1e0000-0000-4000-8000-000000000000"


def bare(tasks: int) -> float:
    """Tasks per second of a loop that only spawns and waits, two at a time."""
    begin, running = time.perf_counter(), 0
    for _ in range(tasks):
        os.posix_spawn("/bin/true", ["/bin/true"], {}, setsid=True)
        running += 1
        if running == 2:
            os.wait4(-1, 0)
            running -= 1
    while running:
        os.wait4(-1, 0)
        running -= 1
    return tasks / (time.perf_counter() - begin)


@dataclass
class Ran:
    """What one pilot did. ``rate``: tasks per second between the first claim and the last fact; ``cpu``: seconds of
    processor time of the whole pilot for each task; ``ended``: the facts.
    """

    rate: float
    cpu: float
    ended: list[dict[str, Any]]


def agent(tasks: int, per_card: int, python: str, step: dict[str, object], files: bytes | None = None) -> Ran:
    """A pilot that finds all cards in its inbox: so many tasks of one step (as in a card), with shipped files (a tar)."""
    root = tempfile.mkdtemp(prefix="icp-bench-")
    try:
        where = spool.Spool(root)
        for folder in where.folders():
            Path(folder).mkdir(mode=0o700)
        need = b'{"any":[[["CPU","==",true]]],"cpus":1,"disk":1000,"gpus":0,"memory":1000000,"time":60}'
        need_id = hashlib.sha256(need).hexdigest()[:16]
        Path(where.need(need_id)).write_bytes(need)
        shipped = []
        if files is not None:
            shipped = [hashlib.sha256(files).hexdigest()]
            Path(where.blob(shipped[0])).write_bytes(files)
        for first in range(0, tasks, per_card):
            card = {"card": secrets.token_hex(8), "format": 1, "need": need_id, "attempts": []}
            card["attempts"] = [_attempt(number, step, shipped) for number in range(first, min(tasks, first + per_card))]
            Path(where.inbox, spool.join_card_name(0, need_id, str(card["card"]))).write_text(json.dumps(card))
        pilot = Path(where.pilot("bench"))
        pilot.mkdir()
        pilot.joinpath("pilot.json").write_text(json.dumps({"pilot": "bench", "ledger": LEDGER, "idle": 0.2, "cpus": 2, "heartbeat": 30}))
        program, _ = ship.cached(Path(root, "program"))
        # python3 is this one for both, not a starter of it that may come first in PATH.
        env = {**os.environ, "PATH": str(Path(python).parent) + ":" + os.environ.get("PATH", "")}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python, "-I", "-S", str(program), "run", "--spool", root, "--pilot", "bench"], check=True, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        (home,) = Path(where.agents).iterdir()
        chunks = [(n, 0, (home / f"journal.{n}").read_bytes()) for n in range(1, 1 + len(list(home.glob("journal.*"))))]
        facts, _ = spool.take(spool.BEGIN, chunks)
        begin = next(fact["t"] for fact in facts if fact["f"] == "claimed")
        ended = [fact for fact in facts if fact["f"] == "ended"]
        assert len(ended) == tasks, len(ended)
        assert all(fact["r"] == "ok" for fact in ended), [fact for fact in ended if fact["r"] != "ok"][:3]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Ran(tasks / float(ended[-1]["t"] - begin), cpu / tasks, ended)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _attempt(number: int, step: dict[str, object], files: list[str]) -> dict[str, object]:
    return {
        "a": secrets.token_hex(8),
        "k": secrets.token_hex(8),
        "dataset": LEDGER,
        "job": number,
        "task": "one",
        "try": 1,
        "after": [],
        "cpus": 1,
        "memory": 1000000,
        "disk": 1000,
        "gpus": 0,
        "time": 60,
        "files": files,
        "in": [],
        "steps": [{"tray": 0, "iter": 0, "module": 0, "software": None, "env": {}, **step}],
        "out": [],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--tasks", type=int, default=10000)
    options.add_argument("--cards", type=int, default=200, help="tasks per card")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--python", default=sys.executable, help="interpreter of the pilot")
    given = options.parse_args()
    ratios = []
    for _ in range(given.rounds):
        loop, rate = bare(given.tasks), agent(given.tasks, given.cards, given.python, {"argv": ["/bin/true"]}).rate
        ratios.append(rate / loop)
        print(f"bare posix_spawn {loop:7.0f} tasks/s   agent {rate:7.0f} tasks/s   ratio {rate / loop:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
