"""One-line Python modules per second of one agent on two slots, beside `python3 -c pass` as commands in the same run.

python bench/modules.py [--tasks 10000] [--commands 1000] [--rounds 3] [--python PYTHON]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from icp.backends import ship
from icp.pilot import spool

LEDGER = "5a1e0000-0000-4000-8000-000000000000"
TEXT = b"""from icp.pilot.module import Module


class One(Module):
    def execute(self, stats):
        stats["one"] = 1
"""


def pack() -> bytes:
    """The shipped file, as submitting packs it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        info = tarfile.TarInfo("one.py")
        info.size = len(TEXT)
        tar.addfile(info, io.BytesIO(TEXT))
    return target.getvalue()


def agent(tasks: int, per_card: int, python: str, step: dict[str, object], files: bytes | None) -> tuple[float, float]:
    """Tasks per second between the first claim and the last fact of a pilot that finds all cards in its inbox; and the
    processor time of the whole pilot for each task, seconds.
    """
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
        if files is not None:
            assert all(fact["stats"] == {"one": 1} for fact in ended)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return tasks / float(ended[-1]["t"] - begin), cpu / tasks
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
    options.add_argument("--commands", type=int, default=1000, help="how many of `python3 -c pass`")
    options.add_argument("--cards", type=int, default=200, help="tasks per card")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--python", default=sys.executable, help="interpreter of the pilot and of the tasks")
    given = options.parse_args()
    module = {"python": {"file": "one.py", "class": "One", "params": {}}}
    command = {"argv": ["python3", "-c", "pass"]}
    ratios: list[float] = []
    work: list[float] = []
    for _ in range(given.rounds):
        begin = time.perf_counter()
        cold, cold_cpu = agent(given.commands, given.cards, given.python, command, None)
        warm, warm_cpu = agent(given.tasks, given.cards, given.python, module, pack())
        ratios.append(warm / cold)
        work.append(cold_cpu / warm_cpu)
        print(
            f"python3 -c pass {cold:6.0f} tasks/s {cold_cpu * 1e3:6.2f} ms   modules {warm:6.0f} tasks/s {warm_cpu * 1e3:6.2f} ms   "
            f"ratio {warm / cold:.2f}, of processor time {cold_cpu / warm_cpu:.2f}   ({time.perf_counter() - begin:.0f} s)",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}, of processor time {statistics.median(work):.2f}")


if __name__ == "__main__":
    main()
