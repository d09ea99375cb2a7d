"""Tasks per second of one agent on two slots with /bin/true, beside a bare posix_spawn loop in the same run.

python bench/agent_noop.py [--tasks 10000] [--cards 200] [--rounds 3] [--python PYTHON]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def agent(tasks: int, per_card: int, python: str) -> float:
    """Tasks per second between the first claim and the last fact of a pilot that finds all cards in its inbox."""
    root = tempfile.mkdtemp(prefix="icp-bench-")
    try:
        where = spool.Spool(root)
        for folder in where.folders():
            Path(folder).mkdir(mode=0o700)
        need = b'{"any":[[["CPU","==",true]]],"cpus":1,"disk":1000,"gpus":0,"memory":1000000,"time":60}'
        need_id = hashlib.sha256(need).hexdigest()[:16]
        Path(where.need(need_id)).write_bytes(need)
        for first in range(0, tasks, per_card):
            card = {"card": secrets.token_hex(8), "format": 1, "need": need_id, "attempts": []}
            card["attempts"] = [_attempt(number) for number in range(first, min(tasks, first + per_card))]
            Path(where.inbox, spool.join_card_name(0, need_id, str(card["card"]))).write_text(json.dumps(card))
        pilot = Path(where.pilot("bench"))
        pilot.mkdir()
        told = {"pilot": "bench", "ledger": LEDGER, "idle": 0.2, "cpus": 2, "heartbeat": 30}
        (pilot / "pilot.json").write_text(json.dumps(told))
        program, _ = ship.cached(Path(root, "program"))
        command = [python, "-I", "-S", str(program), "run", "--spool", root, "--pilot", "bench"]
        subprocess.run(command, check=True)
        (home,) = Path(where.agents).iterdir()
        chunks = [(n, 0, (home / f"journal.{n}").read_bytes()) for n in range(1, 1 + len(list(home.glob("journal.*"))))]
        facts, _ = spool.take(spool.BEGIN, chunks)
        begin = next(fact["t"] for fact in facts if fact["f"] == "claimed")
        ended = [fact for fact in facts if fact["f"] == "ended"]
        assert len(ended) == tasks and all(fact["r"] == "ok" for fact in ended)
        return tasks / float(ended[-1]["t"] - begin)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _attempt(number: int) -> dict[str, object]:
    step: dict[str, object] = {"tray": 0, "iter": 0, "module": 0, "software": None, "env": {}, "argv": ["/bin/true"]}
    return {
        "a": secrets.token_hex(8),
        "k": secrets.token_hex(8),
        "dataset": LEDGER,
        "job": number,
        "task": "noop",
        "try": 1,
        "after": [],
        "cpus": 1,
        "memory": 1000000,
        "disk": 1000,
        "gpus": 0,
        "time": 60,
        "files": [],
        "in": [],
        "steps": [step],
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
        loop, rate = bare(given.tasks), agent(given.tasks, given.cards, given.python)
        ratios.append(rate / loop)
        print(f"bare posix_spawn {loop:7.0f} tasks/s   agent {rate:7.0f} tasks/s   ratio {rate / loop:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
