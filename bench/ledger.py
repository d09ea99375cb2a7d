"""The ledger's own speed: submitting ten million jobs of seven tasks, and ingesting facts, states and counts included.

    python bench/ledger.py [--facts 40000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from icp.config import Config, load
from icp.engine import Engine, submission
from icp.ledger.db import Ledger, open_ledger
from icp.ledger.ingest import Ingest
from icp.model.exchange import Answer
from icp.model.plan import Policy
from icp.pilot import spool


def submit(folder: Path) -> float:
    """Seconds of the whole command `icp submit` less those of `icp --version`, for 10,000,000 x 7."""
    text = "jobs = 10_000_000\n"
    for number in range(7):
        text += f'[task.t{number}]\ncommand = "true $args(seed)"\noutputs = ["o{number}"]\n'
        text += f'inputs = ["t{number - 1}:o{number - 1}"]\n' if number else ""
    (folder / "big.toml").write_text(text)
    env = {**os.environ, "ICP_HOME": str(folder / "home"), "ICP_NODE_DIR": str(folder / "node")}
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text("[site.local.pilot]\nmax = 0\n[policy]\nrelease_jobs = 0\n")
    seconds = []
    for words in (["submit", "big.toml"], ["--version"]):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "icp", *words], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return seconds[0] - seconds[1]


def dealt(folder: Path, tasks: int) -> tuple[Ledger, Engine, Config, list[tuple[str, str, str]]]:
    """A ledger in which so many tasks wait at a site: (card, attempt, passkey) of each."""
    os.environ["ICP_HOME"] = str(folder / "second")
    (folder / "second").mkdir()
    (folder / "second" / "config.toml").write_text(f"[policy]\ndepth = 1e9\nqueue_tasks = {tasks}\ntick_tasks = {tasks}\nrelease_jobs = {tasks}\n")
    (folder / "many.toml").write_text(f"jobs = {tasks}\ncommand = [\"true\"]\n")
    config = load()
    ledger = open_ledger(config.ledger, create=True)
    submission.submit(ledger, submission.prepare(folder / "many.toml"), time.time())
    ledger.take_lease(time.time())
    from icp.backends.base import Unknown

    engine = Engine(ledger, config, exchanger=lambda *_: Unknown("a bench"))
    engine.tick()
    rows = ledger.db.execute("SELECT c.key, a.key, a.passkey FROM attempt a JOIN card c ON c.id = a.card").fetchall()
    return ledger, engine, config, [(card.hex(), key.hex(), passkey.hex()) for card, key, passkey in rows]


def ingest(folder: Path, facts: int) -> float:
    """Facts per second: a claim and an end for each task, with output and statistics left out as in a no-op task."""
    ledger, engine, _, attempts = dealt(folder, facts // 2)
    site = engine.sites["local"].id
    pilot = ledger.db.execute("SELECT key FROM pilot").fetchone()[0].hex()
    agent = f"{pilot}.0.0123456789abcdef"
    lines = [spool.line({"n": 1, "t": 1.0, "f": "started", "host": "h", "boot": "b", "pid": 1, "cpus": 2, "memory": 1, "disk": 1, "gpus": 0, "attrs": {}})]
    for card, key, passkey in attempts:
        lines.append(spool.line({"n": len(lines) + 1, "t": 2.0, "f": "claimed", "card": card}))
        ended = {"n": len(lines) + 1, "t": 3.0, "f": "ended", "a": key, "k": passkey, "r": "ok", "exit": 0, "ph": [2.0, 2.0, 3.0, 3.0], "cpu": 0.001, "rss": 0}
        lines.append(spool.line(ended))
    data = b"".join(lines)
    answer = Answer(
        owner={"serial": 1, "host": "h", "boot": "b", "now": 4.0}, applied={"serial": 1, "submit": {}},
        agents=[[agent, "agents", {"journal": [[1, len(data)]]}, [], []]], journals=[(agent, "journal", 1, 0, data)], whole=True,
    )  # fmt: skip
    begin = time.perf_counter()
    done = Ingest(ledger, engine.definitions, site, Policy(), time.time())(answer)
    took = time.perf_counter() - begin
    assert done.accepted == len(attempts), done
    return done.facts / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=40_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(f"submit 10,000,000 jobs x 7 tasks: {submit(Path(place)):.2f} s, to the end of the first tick")
        print(f"ingest: {ingest(Path(place), options.facts):,.0f} facts/s")


if __name__ == "__main__":
    main()
