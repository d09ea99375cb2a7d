"""examples/muons while everything that can die dies at random moments; its result must be that of an undisturbed run.

    python tests/torture/torture.py [--kills 100] [--jobs 200] [--seed S]

The engine is killed with SIGKILL --kills times and started again; agents, supervisors, whole batch jobs and exchanges are killed, journals
torn, the spool's disk is full for short times, answers are lost and orders doubled, and the owner suspends, resumes and resets.
The seed decides what happens and when it is meant to happen; it is printed, though the machine's own timing is never the same twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fault"))

from main_job import Home, Result  # noqa: E402

from icp.ledger.control import Control  # noqa: E402
from icp.ledger.definitions import Definitions  # noqa: E402
from icp.pilot import node  # noqa: E402
from icp.states import Dataset  # noqa: E402

MUONS = HERE.parents[1] / "examples" / "muons" / "steering.toml"
LIFE = 2.5
"""Seconds that an engine lives at the most."""
PAUSE = 1.5
"""Seconds between two other disturbances at the most."""
DEADLINE = 3000.0


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of our own for the spool, so that it can be full; None (and said) where none can be mounted."""
    place.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=700", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"the disk will not be full: no file system can be mounted here ({done.stderr.strip()})")
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Torture:
    """One run; ``count`` is what was done, by kind."""

    def __init__(self, base: Path, seed: int, kills: int, jobs: int, disk: Path | None) -> None:
        self.random, self.kills, self.jobs, self.disk = random.Random(seed), kills, jobs, disk
        self.home = Home(base / "tortured", idle=2.0, root=None if disk is None else disk / "site", more="max = 2\nmax_pending = 2")
        self.count: Counter[str] = Counter()
        self.engine: subprocess.Popen[bytes] | None = None
        self.errors = (base / "engine.err").open("ab")
        self.lines = base / "lines"

    # -- what happens -------------------------------------------------------------------------------------------

    def kill_agent(self) -> bool:
        return self._one("agent", lambda pair: [pair[1]])

    def kill_supervisor(self) -> bool:
        return self._one("supervisor", lambda pair: [pair[0]])

    def kill_both(self) -> bool:
        return self._one("agent and supervisor", list)

    def _one(self, word: str, of: Callable[[tuple[int, int]], list[int]]) -> bool:
        agents = self.home.agents()
        if agents:
            self.home.kill(of(self.random.choice(agents)))
            self.count[f"{word} killed"] += 1
        return bool(agents)

    def kill_batch_job(self) -> bool:
        """Everything of one pilot: the leader, supervisor, agent, and its tasks."""
        pilots = [path.parent for path in (self.home.spool / "pilots").glob("*/pid") if not (path.parent / "exit").exists()]
        if not pilots:
            return False
        try:
            leader = int(json.loads((self.random.choice(pilots) / "pid").read_text())["pid"])
        except (OSError, ValueError):
            return False
        table = node.processes()
        family = [leader]
        for pid in family:
            family += [one for one, (parent, _, _) in table.items() if parent == pid]
        ours = set(self.home.processes())
        self.home.kill([pid for pid in family if pid in ours])
        self.count["batch job killed"] += 1
        return True

    def kill_exchange(self) -> bool:
        """At once if one is on its way, otherwise the next one that comes within a second."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            found = [pid for pid in self.home.processes() if b"exchange" in _words(pid)]
            if found:
                time.sleep(self.random.uniform(0, 0.15))
                self.home.kill(found[:1])
                self.count["exchange killed"] += 1
                return True
            time.sleep(0.005)
        return False

    def tear_journal(self) -> bool:
        """The tail of an agent's journal is cut or overwritten, while it dies or (seldom) lives on."""
        agents = self.home.agents()
        notes = [json.loads(path.read_text()) for path in self.home.node.glob("*/*.json")] if agents else []
        if not notes:
            return False
        note = self.random.choice(notes)
        pids = [pid for pid, start in note["processes"] if node.alive(pid, start)]
        self.home.kill(pids, signal.SIGSTOP)
        segments = sorted((self.home.spool / "agents" / note["agent"]).glob("journal.*"), key=lambda path: int(path.suffix[1:]))
        if segments:
            size = segments[-1].stat().st_size
            back = self.random.randrange(1, 400)
            if self.random.random() < 0.5:
                os.truncate(segments[-1], max(0, size - back))
            else:
                with segments[-1].open("r+b") as stream:
                    stream.seek(max(0, size - back))
                    stream.write(self.random.randbytes(min(back, 20)))
            self.count["journal torn"] += 1
        if self.random.random() < 0.2:
            for pid in pids:
                self.home.kill([pid], signal.SIGCONT)
        else:
            self.home.kill(pids)
        return bool(segments)

    def fill_disk(self) -> bool:
        if self.disk is None:
            return False
        info = os.statvfs(self.disk)
        used = (info.f_blocks - info.f_bfree) * info.f_frsize
        if subprocess.run(["mount", "-o", f"remount,size={used}", str(self.disk)], capture_output=True, check=False).returncode:
            return False  # it grew meanwhile
        time.sleep(self.random.uniform(0.2, 1.5))
        subprocess.run(["mount", "-o", "remount,size=1g", str(self.disk)], check=True)
        self.count["disk full for a while"] += 1
        return True

    def command(self) -> bool:
        """Its owner suspends and resumes the dataset, or resets some jobs."""
        ledger = self.home.ledger()
        try:
            control = Control(ledger, Definitions(ledger.db), 1, time.time())
            if self.random.random() < 0.5 and control.state == Dataset.PROCESSING:
                control.suspend()
                time.sleep(self.random.uniform(0.1, 1.0))
                Control(ledger, Definitions(ledger.db), 1, time.time()).resume()
                self.count["dataset suspended, resumed"] += 1
            else:
                first = self.random.randrange(self.jobs)
                control.reset_jobs(first, min(self.jobs - 1, first + self.random.randrange(4)))
                self.count["jobs reset"] += 1
        finally:
            ledger.close()
        return True

    # -- the run ------------------------------------------------------------------------------------------------

    def start_engine(self) -> None:
        words = [sys.executable, str(HERE / "bad_line.py"), str(self.random.getrandbits(32)), str(self.lines)]
        self.engine = subprocess.Popen(words, env=self.home.env, stderr=self.errors, stdout=self.errors, cwd=self.home.home)

    def run(self) -> None:
        """Disturb until the engine was killed often enough, then let it come to its end."""
        weighted = [self.kill_agent] * 4 + [self.kill_supervisor] * 4 + [self.kill_both] * 2 + [self.kill_batch_job] + [self.kill_exchange] * 8
        weighted += [self.tear_journal] * 3 + [self.fill_disk] * 2 + [self.command] * 2
        begin = time.monotonic()
        next_other = begin + PAUSE
        self.start_engine()
        next_kill = begin + self.random.uniform(0, LIFE)
        said = 0.0
        while self.count["engine killed"] < self.kills:
            now = time.monotonic()
            assert now - begin < DEADLINE, self.home.story()
            if now - said > 30:
                said = now
                print(f"{now - begin:6.0f} s  {self.count['engine killed']:3} engine kills, {self.home.ask('SELECT state, n FROM dataset_tally')}", flush=True)
            assert self.engine is not None
            code = self.engine.poll()
            if code is not None:
                assert code == 0, f"the engine ended with {code}"
                # complete before it was killed often enough: more to do
                self.command()
                self.start_engine()
            elif now >= next_kill:
                self.engine.kill()
                self.engine.wait()
                self.count["engine killed"] += 1
                time.sleep(self.random.choice([0, 0, 0, self.random.uniform(0, 1)]))
                self.start_engine()
                next_kill = time.monotonic() + self.random.uniform(0, LIFE)
            elif now >= next_other:
                self.random.choice(weighted)()
                next_other = time.monotonic() + self.random.uniform(0.05, PAUSE)
            time.sleep(0.01)
        while (code := self.engine.wait(600)) != 0:
            raise AssertionError(f"the engine ended with {code}")
        self.count.update(self.lines.read_text().split("\n")[:-1])


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def undisturbed(base: Path, seed: int, jobs: int) -> Result:
    home = Home(base / "golden")
    try:
        home.submit_file(MUONS, seed=seed, jobs=jobs)
        home.run(patience=1200.0)
        home.assert_result(home.result())
        return home.result()
    finally:
        home.close()


def torture(seed: int, kills: int, jobs: int, keep: bool = False) -> None:
    """One whole run; AssertionError says what did not hold."""
    print(f"torture: --seed {seed} --kills {kills} --jobs {jobs}", flush=True)
    base = Path(tempfile.mkdtemp(prefix="icp-torture-"))
    ok = False
    try:
        begin = time.monotonic()
        golden = undisturbed(base, seed, jobs)
        calm = time.monotonic() - begin
        print(f"undisturbed: {calm:.0f} s, {len(golden.outputs)} outputs", flush=True)
        with small_disk(base / "disk") as disk:
            run = Torture(base, seed, kills, jobs, disk)
            try:
                run.home.submit_file(MUONS, seed=seed, jobs=jobs)
                begin = time.monotonic()
                try:
                    run.run()
                    run.home.assert_result(golden)
                except BaseException:
                    print(run.home.story())
                    print((base / "engine.err").read_text()[-3000:])
                    print(dict(run.count))
                    raise
                _table(run, time.monotonic() - begin, calm, golden)
            finally:
                if run.engine is not None and run.engine.poll() is None:
                    run.engine.kill()
                    run.engine.wait()
                run.errors.close()
                run.home.close()
                if keep and sys.exc_info()[0] is not None:
                    print("kept:", base)
                    keep_spool(run, base)
        ok = True
    finally:
        if ok or not keep:
            shutil.rmtree(base, ignore_errors=True)


def keep_spool(run: Torture, base: Path) -> None:
    if run.disk is not None:
        shutil.copytree(run.disk, base / "spool-as-it-was", symlinks=True, ignore_dangling_symlinks=True)


def _table(run: Torture, seconds: float, calm: float, golden: Result) -> None:
    ((attempts, oks, tasks),) = run.home.ask("SELECT (SELECT count(*) FROM attempt), count(accepted), count(*) FROM task")
    lines = [(kind, str(n)) for kind, n in sorted(run.count.items(), key=lambda item: -item[1])]
    lines += [
        ("wall time", f"{seconds:.0f} s (undisturbed {calm:.0f} s)"),
        ("outputs with the same sha256", f"{len(golden.outputs)} of {len(golden.outputs)}"),
        ("tasks ok, each once", f"{oks} of {tasks}, by {attempts} attempts"),
        ("statistics equal", f"{len(golden.statistics)} of {len(golden.statistics)}"),
        ("ledger check", "clean"),
        ("processes and directories left", "none"),
    ]
    for word, value in lines:
        print(f"  {word:<32} {value}")
    assert run.count["engine killed"] >= run.kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how often the engine is killed")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the directory of a run that failed")
    given = parser.parse_args()
    torture(secrets.randbits(32) if given.seed is None else given.seed, given.kills, given.jobs, given.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
