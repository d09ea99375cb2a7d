"""`icp status` beside `python -c "import typer, rich.table"`: user + sys, best of 15 interleaved runs, on a ledger with a finished dataset.

    python bench/status.py [--jobs 200000]

The ledger is filled by SQL with as many finished tasks as asked for; only kept counts are read, so their number should not matter.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def cpu(command: list[str], env: dict[str, str]) -> float:
    """User and system seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def fill(home: Path, jobs: int) -> None:
    """A dataset of so many jobs of one task, all ok, each with its attempt."""
    from icp.dsl.steering import parse
    from icp.ledger.db import open_ledger
    from icp.ledger.submit import record

    ledger = open_ledger(home / "ledger.sqlite", create=True)
    steering = parse(f'name = "done"\njobs = {jobs}\ncommand = "true"\n')
    with ledger.write() as db:
        number = record(ledger, steering, uuid="0" * 36, seed=1, directory="/", outputs="/tmp/done", pack=None, now=time.time())
        one = db.execute("SELECT id FROM task_def WHERE dataset = ?", (number,)).fetchone()[0]
        db.execute("INSERT INTO name (text) VALUES ('local')")
        db.execute("INSERT INTO site (name, zone) VALUES ('local', 1)")
        db.execute(
            "WITH RECURSIVE job (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM job WHERE n + 1 < ?) "
            "INSERT INTO task (id, dataset, task_def, job, state, live, need, site, accepted) SELECT n + 1, ?, ?, n, 4, 0, 1, 1, n + 1 FROM job",
            (jobs, number, one),
        )
        db.execute(
            "INSERT INTO attempt (id, key, passkey, task, try, site, card, state, live, begun, staging, running, storing, cpu, rss, exit) "
            "SELECT id, randomblob(8), randomblob(8), id, 1, 1, 1, 5, 0, 1790000000.5, 3, 60000, 20, 59000, 41000, 0 FROM task"
        )
        db.execute("INSERT INTO dataset_tally VALUES (?, 4, ?)", (number, jobs))
        db.execute("INSERT INTO tally VALUES (?, ?, 1, 4, ?)", (number, one, jobs))
        db.execute("UPDATE dataset SET released = jobs, state = 2, finished = ? WHERE id = ?", (time.time(), number))
    ledger.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        fill(home, options.jobs)
        size = (home / "ledger.sqlite").stat().st_size
        print(f"{options.jobs} finished tasks with their attempts: {size / options.jobs:.0f} bytes each")
        env = {**os.environ, "ICP_HOME": str(home), "PYTHONDONTWRITEBYTECODE": ""}
        ours = [str(Path(sys.executable).with_name("icp")), "status", "--all"]
        theirs = [sys.executable, "-c", "import typer, rich.table"]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.runs):
            times[0].append(cpu(ours, env))
            times[1].append(cpu(theirs, env))
        print(f"icp status {min(times[0]) * 1000:.0f} ms, import typer, rich.table {min(times[1]) * 1000:.0f} ms (user + sys, best of {options.runs})")
        print(f"ratio {min(times[0]) / min(times[1]):.2f}")


if __name__ == "__main__":
    main()
