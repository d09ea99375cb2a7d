"""The main job on real processes, for tests that disturb it: a home of its own, a small DAG, and what must hold in the end whatever happened."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp import config
from icp.backends.spool_client import Hello, Query, SpoolClient, SpoolPlace, Talk
from icp.backends.transport import LocalTransport
from icp.engine import submission
from icp.ledger.check import check
from icp.ledger.control import Control
from icp.ledger.db import Ledger, open_ledger
from icp.ledger.definitions import Definitions
from icp.ledger.sites import standing
from icp.model.exchange import Answer
from icp.pilot import node

PATIENCE = 120.0
ENGINE = Path(__file__).with_name("engine_process.py")

# The bytes of every file follow from the seed and the inputs alone; `nap` gives tests the time to kill.
WORK = """\
set -e
name=$1 seed=$2; shift 2
sleep "${ICP_TEST_NAP:-0}"
draw=$((seed % 100003))
for out in $ICP_TEST_OUT; do echo "$name $out $seed" > "$out"; cat "$@" >> "$out"; cksum < "$out" >> "$out"; done
echo "draw $draw.25" > "$ICP_STATS"
echo "runs 1" >> "$ICP_STATS"
echo "did $name"
"""

STEERING = """\
name  = "fault"
jobs  = {jobs}
files = ["work.sh"]

[task.left]
command   = "ICP_TEST_OUT=left.txt sh work.sh left $args(seed)"
outputs   = ["left.txt"]
resources = {{ memory = "10 MB", disk = "10 MB" }}

[task.right]
command   = "ICP_TEST_OUT='right.txt more.txt' sh work.sh right $args(seed)"
outputs   = ["right.txt", "more.txt"]
resources = {{ memory = "10 MB", disk = "10 MB" }}

[task.middle]
inputs    = ["left:left.txt", "right:right.txt"]
command   = "ICP_TEST_OUT=middle.txt sh work.sh middle $args(seed) left.txt right.txt"
outputs   = ["middle.txt"]
resources = {{ memory = "10 MB", disk = "10 MB" }}

[final.whole]
inputs    = ["middle:middle.txt[*]"]
command   = "xargs env ICP_TEST_OUT=whole.txt sh work.sh whole $args(seed) < inputs.list"
outputs   = ["whole.txt"]
resources = {{ memory = "10 MB", disk = "10 MB" }}
"""

CONFIG = """\
[run]
pause_local = 0.05
pause = 0.05
[policy]
backoff = [0]
{policy}
[site.local]
{root}
[site.local.attributes]
GPU = true
[site.local.pilot]
cpus = 2
memory = "4 GB"
disk = "1 GB"
idle = {idle}
{more}
"""


@dataclass(frozen=True)
class Result:
    """What a dataset came to: sha256 of every output by its path, and (n, sum, min, max) of every statistic by task and name."""

    outputs: Mapping[str, str]
    statistics: Mapping[tuple[str, str], tuple[int, float, float, float]]

    def to_json(self) -> str:
        return json.dumps({"outputs": dict(self.outputs), "statistics": [[*key, *value] for key, value in self.statistics.items()]})

    @classmethod
    def from_json(cls, text: str) -> Result:
        value = json.loads(text)
        return cls(value["outputs"], {(row[0], row[1]): tuple(row[2:]) for row in value["statistics"]})  # type: ignore[misc]

    def assert_same(self, other: Result) -> None:
        """Same bytes; n, min and max equal; sums to 1e-9."""
        assert dict(self.outputs) == dict(other.outputs)
        assert set(self.statistics) == set(other.statistics)
        for key, (n, total, low, high) in self.statistics.items():
            there = other.statistics[key]
            assert (n, low, high) == (there[0], *there[2:]), key
            assert math.isclose(total, there[1], rel_tol=1e-9), key


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Waits for real processes: the value once it is true."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within {patience:.0f} s")


class Home:
    """An ICP_HOME with one dataset, everything that it starts marked as its own; the node's registry and scratch are its own too."""

    def __init__(self, base: Path, *, idle: float = 0.3, policy: str = "", root: Path | None = None, more: str = "") -> None:
        self.base = base
        self.home, self.node, self.scratch = base / "home", base / "node", base / "scratch"
        for folder in (self.home, self.scratch):
            folder.mkdir(parents=True)
        self.mark = secrets.token_hex(8)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("ICP_")}
        self.env.update(ICP_HOME=str(self.home), ICP_NODE_DIR=str(self.node), TMPDIR=str(self.scratch), ICP_TEST_MARK=self.mark)
        text = CONFIG.format(idle=idle, policy=policy, more=more, root="" if root is None else f'root = "{root}"')
        (self.home / "config.toml").write_text(text)
        self.outputs = self.home / "outputs"
        self.kills = 0
        self.said = ""

    # -- the dataset --------------------------------------------------------------------------------------------

    def config(self) -> config.Config:
        return config.load(self.env)

    def ledger(self) -> Ledger:
        return open_ledger(self.config().ledger)

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the ledger as it is now."""
        ledger = self.ledger()
        try:
            return list(ledger.db.execute(query, values).fetchall())
        finally:
            ledger.close()

    def submit(self, jobs: int = 4, seed: int = 7) -> None:
        (self.home / "work.sh").write_text(WORK)
        (self.home / "steering.toml").write_text(STEERING.format(jobs=jobs))
        self.submit_file(self.home / "steering.toml", seed=seed)

    def submit_file(self, steering: Path, seed: int, jobs: int | None = None) -> None:
        ledger = open_ledger(self.config().ledger, create=True)
        submission.submit(ledger, submission.prepare(steering, seed=seed, outputs=self.outputs, jobs=jobs), time.time())
        ledger.close()

    @property
    def spool(self) -> Path:
        uuid, root = self.ask("SELECT (SELECT value FROM meta WHERE key = 'uuid'), (SELECT value FROM meta WHERE key = 'root:local')")[0]
        return Path(root or self.home / "spool") / str(uuid)

    # -- the engine ---------------------------------------------------------------------------------------------

    def start(self, **env: str) -> subprocess.Popen[str]:
        """The engine as a process of its own."""
        return subprocess.Popen([sys.executable, str(ENGINE)], env={**self.env, **env}, stderr=subprocess.PIPE, text=True, cwd=self.home)

    def finish(self, engine: subprocess.Popen[str], patience: float = PATIENCE) -> int:
        """Wait for its end: its exit code, negative if it was killed."""
        try:
            self.said = engine.communicate(timeout=patience)[1]
        except subprocess.TimeoutExpired:
            engine.kill()
            said = engine.communicate()[1]
            raise AssertionError(f"the engine did not come to its end:\n{said[-3000:]}\n{self.story()}") from None
        return engine.returncode

    def run(self, patience: float = PATIENCE, **env: str) -> None:
        """Run the engine, again whenever it was killed, until the dataset is complete and nothing of it is left at the site."""
        while True:
            code = self.finish(self.start(**env), patience)
            if code == -signal.SIGKILL:
                self.kills += 1
                continue
            assert code == 0, self.said[-3000:]
            return

    def faults(self, *specs: str) -> dict[str, str]:
        """``name:N[:action]`` as ICP_FAULT, each with its token."""
        folder = self.base / "tokens"
        folder.mkdir(exist_ok=True)
        armed = []
        for spec in specs:
            action = ""
            if spec.endswith((":torn", ":enospc")):
                spec, _, action = spec.rpartition(":")
            token = folder / f"{spec.replace(':', '.')}{action}"
            token.touch()
            armed.append(f"{spec}:{token}" + (f":{action}" if action else ""))
        return {"ICP_FAULT": ";".join(armed)}

    def run_until_spent(self, **env: str) -> None:
        """Run to the end; on a machine that is quick or slow enough for some point to be passed too seldom, do all of it anew until all came."""
        self.run(**env)
        for _ in range(8):
            if not self.unspent():
                return
            ledger = self.ledger()
            try:
                Control(ledger, Definitions(ledger.db), 1, time.time()).reset_jobs(0, self.ask("SELECT jobs FROM dataset")[0][0] - 1)
            finally:
                ledger.close()
            self.run(**env)

    def unspent(self) -> list[str]:
        """Faults that were armed and did not come."""
        return sorted(path.name for path in (self.base / "tokens").iterdir())

    def exchange(self, orders: tuple[int, bytes, str] | None = None, query: Query | None = None) -> Answer:
        """One conversation with the site, outside of the engine."""
        ledger = self.ledger()
        try:
            serial, epoch = standing(ledger.db, 1)
            uuid = ledger.uuid
        finally:
            ledger.close()
        hello = Hello(uuid, epoch, serial, None) if orders is None else Hello(uuid, epoch, orders[0], orders[1:])
        program = next((self.spool.parent / "programs").glob("pilot-*.pyz"))
        talk = Talk(SpoolPlace(self.spool, program), hello, query or Query())
        answer = SpoolClient(LocalTransport(self.env)).exchange([talk])[0]
        assert isinstance(answer, Answer), answer
        return answer

    # -- its processes ------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Everything alive that was started on behalf of this home: pid -> agent ("" for others)."""
        return {pid: node.environment(pid, "ICP_AGENT") or "" for pid in node.processes() if node.environment(pid, "ICP_TEST_MARK") == self.mark}

    def tasks(self) -> list[int]:
        """Processes of tasks."""
        return [pid for pid, agent in self.processes().items() if agent]

    def agents(self) -> list[tuple[int, int]]:
        """(supervisor, agent) of every agent that is alive with its supervisor, by the node's registry."""
        found = []
        for path in self.node.glob("*/*.json") if self.node.exists() else ():
            try:
                noted = json.loads(path.read_text())["processes"]
            except (OSError, ValueError):
                continue
            if len(noted) == 2 and all(node.alive(*one) for one in noted):
                (supervisor, _), (agent, _) = noted
                found.append((supervisor, agent))
        return found

    def kill(self, pids: Iterable[int], number: int = signal.SIGKILL) -> None:
        """Signal processes of this home; all are stopped first where there are several, so that none sees another's end."""
        ours = [pid for pid in pids if node.environment(pid, "ICP_TEST_MARK") == self.mark]
        for step in ([signal.SIGSTOP, number] if len(ours) > 1 else [number]):
            for pid in ours:
                try:
                    os.kill(pid, step)
                except ProcessLookupError:
                    pass

    def close(self) -> None:
        """Leave no process behind, whatever the test did."""
        for _ in range(100):
            left = self.processes()
            if not left:
                return
            self.kill(left)
            time.sleep(0.02)

    # -- the end ------------------------------------------------------------------------------------------------

    def result(self) -> Result:
        files = sorted(path for path in self.outputs.rglob("*") if not path.is_dir())
        rows = self.ask(
            "SELECT d.name, n.text, s.n, s.sum, s.min, s.max FROM summary s JOIN name n ON n.id = s.stat JOIN task_def d ON d.id = s.task_def ORDER BY 1, 2"
        )
        return Result(
            {str(path.relative_to(self.outputs)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
            {(row[0], row[1]): row[2:] for row in rows},  # type: ignore[misc]
        )

    def assert_result(self, golden: Result) -> None:
        """All that must hold in the end, whatever happened on the way."""
        self.result().assert_same(golden)
        odd = self.ask("SELECT t.id, count(a.id), sum(a.id = t.accepted) FROM task t LEFT JOIN attempt a ON a.task = t.id AND a.state = 5 AND a.void = 0 "
                       "GROUP BY t.id HAVING count(a.id) <> 1 OR sum(a.id = t.accepted) <> 1")  # fmt: skip
        assert not odd, f"(task, attempts that are ok and count, of which accepted): {odd}"
        ledger = self.ledger()
        try:
            assert check(ledger, deep=True) == []
        finally:
            ledger.close()
        self.assert_clean()

    def assert_clean(self) -> None:
        """After one more exchange: no process, no scratch, nothing in the registry, and in the spool only what is to stay."""
        self.exchange()
        until(lambda: not self.processes(), "the end of all processes", 15)
        assert not self.node.exists(), sorted(self.node.rglob("*"))
        assert sorted(self.scratch.iterdir()) == []
        spool = self.spool
        for folder in ("incoming", "inbox", "store", "work"):
            left = sorted(os.listdir(spool / folder)) if (spool / folder).exists() else []
            assert left == [], f"{folder} holds {left}; attempts: {[self.attempt(one) for one in left]}"
        assert sorted(str(path.relative_to(spool)) for path in spool.rglob("*.tmp")) == []
        incoming = self.home / "incoming"
        assert not incoming.exists(), sorted(incoming.iterdir())

    def attempt(self, key: str) -> list[tuple[Any, ...]]:
        return self.ask(
            "SELECT a.id, a.task, a.state, a.void, a.stop, a.agent, t.accepted, (SELECT max(dropping) FROM replica r WHERE r.attempt = a.id) "
            "FROM attempt a JOIN task t ON t.id = a.task WHERE lower(hex(a.key)) = ?", key
        )  # fmt: skip

    def story(self) -> str:
        """For the person who reads why a test failed: what the ledger and the spool say."""
        lines = []
        for query in (
            "SELECT name, state, coming, released, reason FROM dataset",
            "SELECT id, task_def, job, state, site, waiting_on, accepted, not_before FROM task WHERE state <> 4",
            "SELECT id, task, state, void, stop, agent FROM attempt WHERE live = 1",
            "SELECT id, state, stopping, missing, reason FROM pilot",
            "SELECT id, name, state, silent, fence FROM agent",
            "SELECT * FROM stream",
            "SELECT serial, epoch, failures, reason, hold, young, strange FROM site",
            "SELECT site, serial, length(body) FROM outbox",
            "SELECT kind, text FROM error ORDER BY id DESC LIMIT 5",
            "SELECT id, state, kept, live FROM file WHERE live = 1",
            "SELECT * FROM replica WHERE dropping = 1",
        ):
            lines += [query, *(f"    {row}" for row in self.ask(query))]
        lines += [str(path.relative_to(self.spool)) for path in sorted(self.spool.rglob("*")) if path.is_file()]
        return "\n".join([*lines, str(self.processes())])
