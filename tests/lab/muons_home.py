"""examples/muons on this machine and clusters over ssh, for tests that disturb it, and what must hold in the end (hides homes and where to look)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
for _folder in ("fault", "torture"):
    sys.path.insert(0, str(HERE.parent / _folder))

from main_job import Home, Result, until  # noqa: E402
from torture import MUONS, undisturbed  # noqa: E402

from icp.backends.spool_client import Hello, Query  # noqa: E402
from icp.engine import Engine  # noqa: E402
from icp.ledger.check import check  # noqa: E402
from icp.ledger.control import Control  # noqa: E402
from icp.ledger.db import open_ledger  # noqa: E402
from icp.ledger.definitions import Definitions  # noqa: E402
from icp.ledger.sites import anything_there, standing  # noqa: E402
from icp.model.batch import batch_name, name_pattern  # noqa: E402
from icp.model.exchange import Answer  # noqa: E402
from icp.states import Agent, Dataset  # noqa: E402
from tests.lab.queues import queue  # noqa: E402
from tests.lab.sites import LabSite  # noqa: E402

MANY = """\
name  = "many"
jobs  = {jobs}
[task.one]
command = "sleep {nap}; echo 'one 1' > $ICP_STATS"
requirements = "$attr(GPU)"
resources = {{ cpus = 1, memory = "10 MB", disk = "10 MB", time = "1 min" }}
"""
"""Many little tasks, for what is about conversations."""

__all__ = ["MANY", "MUONS", "PATIENCE", "SEED", "Muons", "Result", "undisturbed", "until"]

SEED = 20
"""Of the dataset."""
PATIENCE = float(os.environ.get("ICP_TEST_PATIENCE", "240"))

CONFIG = """\
[run]
pause_local = 0.2
pause = 1
[policy]
backoff = [0]
silent = 45
gap = 30
margin = 20
{policy}
[ssh]
config = "{ssh}"
connect_timeout = 3
{more}
[site.local]
attributes.GPU = {gpu}
pilot.cpus = 1
pilot.idle = {idle}
"""

CLUSTER = """\
[site.{name}]
host = "{host}"
scheduler = "{kind}"
root = "/home/alice/.icp/{mark}-{name}"
attributes.GPU = {gpu}
env.ICP_TEST_MARK = "{mark}"
[site.{name}.pilot]
cpus = 2
memory = "2 GB"
walltime = "{walltime}"
max = 2
max_pending = 2
idle = {idle}
{pilot}
"""


class Muons(Home):
    """An ICP_HOME with examples/muons submitted: at ``local``, and at each of ``sites`` by the name of the site in the configuration.

    ``steering``: what is submitted instead; ``None``: nothing yet.
    ``gpu``: the only site whose attribute says GPU; ``None``: all of them. ``pilot``: more lines of a site's pilots, by site.
    """

    def __init__(
        self, base: Path, sites: Mapping[str, LabSite], *, jobs: int, seed: int, gpu: str | None = None, idle: float = 3, walltime: str = "1 h",
        more: str = "", policy: str = "", pilot: Mapping[str, str] | None = None, steering: Path | None = MUONS,
    ) -> None:  # fmt: skip
        super().__init__(base)
        self.sites, self.jobs = dict(sites), jobs
        first = next(iter(sites.values()))
        text = CONFIG.format(ssh=first.lab.ssh_config, gpu=_toml(gpu in (None, "local")), idle=idle, more=more, policy=policy)
        for name, site in sites.items():
            text += CLUSTER.format(
                name=name, host=site.name, kind=site.kind, mark=self.mark, gpu=_toml(gpu in (None, name)), walltime=walltime, idle=idle,
                pilot=(pilot or {}).get(name, ""),
            )
        (self.home / "config.toml").write_text(text)
        self.log = base / "engine.log"
        if steering is None:
            open_ledger(self.config().ledger, create=True).close()
        else:
            self.submit_file(steering, seed=seed, jobs=jobs)
        self.uuid = str(self.ask("SELECT value FROM meta WHERE key = 'uuid'")[0][0])
        self.seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        """(site, name of a pilot's batch job) -> ids of batch jobs of that name that were ever listed."""
        self.count: dict[str, int] = defaultdict(int)

    # -- the engine ---------------------------------------------------------------------------------------------

    def engine(self, *words: str) -> subprocess.Popen[bytes]:
        """``icp run`` as a person or cron starts it."""
        return self.process(sys.executable, "-m", "icp", "run", *(words or ("--until-done",)))

    def process(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(words, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home)

    def once(self) -> int:
        """``icp run --once``: its exit code."""
        return self.engine("--once").wait(PATIENCE)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The engine runs while the body disturbs it; then it has to come to its end undisturbed."""
        engine = self.engine("--quiet")
        try:
            with self.watched():
                yield
                assert engine.poll() is None, f"the engine ended with {engine.returncode}\n{self.story()}"
        finally:
            engine.kill()
            engine.wait()
        self.finish_run()

    def finish_run(self, patience: float = PATIENCE) -> None:
        """``icp run --until-done`` does so."""
        engine = self.engine()
        try:
            with self.watched():
                code = engine.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not done after {patience:.0f} s\n{self.story()}") from None
        finally:
            engine.kill()
            engine.wait()
        assert code == 0, self.story()

    def killed(self, times: int, moment: Callable[[], float], longer: Callable[[], bool] = lambda: False) -> None:
        """The engine is killed so often, and while ``longer``: ``moment()`` seconds after its start, every other time after a site's first answer.

        More is made to do where all was done.
        """
        with self.watched():
            while self.count["engine killed"] < times or longer():
                engine = self.engine()
                if self.count["engine killed"] % 2:
                    self._answered(engine)
                try:
                    code = engine.wait(moment())
                except subprocess.TimeoutExpired:
                    engine.kill()
                    engine.wait()
                    self.count["engine killed"] += 1
                else:
                    assert code == 0, self.story()
                    self.again()

    def _answered(self, engine: subprocess.Popen[bytes]) -> None:
        """A slow machine would otherwise never come so far."""
        query = "SELECT sum(answered) FROM site"
        before, deadline = self.ask(query), time.monotonic() + 30
        while engine.poll() is None and self.ask(query) == before and time.monotonic() < deadline:
            time.sleep(0.1)

    def again(self) -> None:
        """All jobs are reset: there is work for every site."""
        ledger = self.ledger()
        try:
            Control(ledger, Definitions(ledger.db), 1, time.time()).reset_jobs(0, self.jobs - 1)
        finally:
            ledger.close()

    def busy(self) -> None:
        """See to it that there is something to do."""
        if self.ok() > 0.6 * (self.jobs * 5 + 1):
            self.again()

    def settle(self) -> None:
        """``icp run --once`` until all is complete and nothing of ours is left at any site."""
        deadline = time.monotonic() + PATIENCE
        with self.watched():
            while True:
                self.once()
                if self.at_rest():
                    return
                assert time.monotonic() < deadline, f"nothing comes to rest\n{self.story()}"
                time.sleep(0.5)

    def at_rest(self) -> bool:
        ledger = self.ledger()
        try:
            sites = [row[0] for row in ledger.db.execute("SELECT id FROM site")]
            return not any(anything_there(ledger.db, site) for site in sites) and self.complete()
        finally:
            ledger.close()

    # -- what can be waited for ---------------------------------------------------------------------------------

    def ok(self) -> int:
        return int(self.ask("SELECT count(*) FROM task WHERE accepted IS NOT NULL")[0][0])

    def progress(self, share: float) -> None:
        """Until this share of all tasks is ok."""
        wanted = share * (self.jobs * 5 + 1)
        until(lambda: self.ok() >= wanted, f"{wanted:.0f} tasks ok", PATIENCE)

    def attempts(self) -> int:
        """So many were made."""
        return int(self.ask("SELECT count(*) FROM attempt")[0][0])

    def pilots(self) -> dict[str, int]:
        """So many were ever made for each site."""
        return dict(self.ask("SELECT s.name, count(*) FROM pilot p JOIN site s ON s.id = p.site GROUP BY 1"))

    def complete(self) -> bool:
        """Every dataset is."""
        return not self.ask("SELECT 1 FROM dataset WHERE state <> ?", int(Dataset.COMPLETE))

    def all_claimed_and_done(self, name: str, n: int) -> bool:
        """So many attempts were sent to a site, and no card is left there."""
        spool = self.place(name)
        return self.attempts() >= n and not [*spool.glob("inbox/*"), *spool.glob("agents/*/claimed/*")]

    def batch(self, name: str, *states: str) -> list[str]:
        """Ids of our batch jobs at a site, all or those in these states; noted for the end."""
        pattern, found = name_pattern(self.uuid), []
        for job, state, word in queue(self.sites[name]).listed():
            match = pattern.match(word)
            if match:
                self.seen[name, batch_name(self.uuid, match[1])].add(job)
                if not states or state in states:
                    found.append(job)
        return found

    def running_pilot(self, *names: str) -> tuple[str, list[str]]:
        """The first of these sites (none named: of all) where tasks of ours are at work, and the batch ids of its pilots that run."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for name in names or self.sites:
                if self.tasks_at(name) and (found := self.batch(name, "RUNNING")):
                    return name, found
            assert time.monotonic() < deadline, f"no task at {names or 'any site'}\n{self.story()}"
            self.busy()
            time.sleep(0.2)

    def tasks_at(self, name: str) -> list[int]:
        """Processes of agents and tasks of ours at a site."""
        place = os.readlink(f"/proc/{self.sites[name]._first()}/ns/pid")
        return [pid for pid in self.tasks() if _link(pid) == place]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Batch systems are asked again and again meanwhile, so that a second job of one pilot does not go unseen."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(1.5):
                for name in self.sites:
                    with contextlib.suppress(OSError, ValueError, IndexError, subprocess.TimeoutExpired):
                        self.batch(name)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def small_disk(self, name: str) -> None:
        """A file system of its own for a site's spool, so that it can be full."""
        place = f"/home/alice/.icp/{self.mark}-{name}"
        done = self.sites[name].inside(
            "sh", "-ec", f"runuser -u alice -- mkdir -p {place}; mount -t tmpfs -o size=200m,mode=700,uid=alice,gid=alice icp-test {place}"
        )
        assert done.returncode == 0, done.stderr

    def fill(self, name: str, seconds: float) -> None:
        """It is full for a while: nothing more can be written, what is there stays."""
        site, place = self.sites[name], f"/home/alice/.icp/{self.mark}-{name}"
        info = os.statvfs(site.root / place[1:])
        used = (info.f_blocks - info.f_bfree) * info.f_frsize
        if site.inside("mount", "-o", f"remount,size={used}", place).returncode == 0:  # else it grew meanwhile
            time.sleep(seconds)
            assert site.inside("mount", "-o", "remount,size=200m", place).returncode == 0
            self.count["disk full"] += 1

    # -- ssh ----------------------------------------------------------------------------------------------------

    def clients(self) -> list[int]:
        """Processes of ssh that carry a conversation of ours."""
        return [pid for pid in self.processes() if "ProxyCommand=false" in _line(pid)]

    def masters(self) -> list[int]:
        """Processes of ssh that hold a shared connection of ours."""
        return [pid for pid in self.processes() if " -MNf " in _line(pid)]

    # -- the end ------------------------------------------------------------------------------------------------

    def place(self, name: str) -> Path:
        """The spool at a site, as root sees it from here."""
        return self.sites[name].root / f"home/alice/.icp/{self.mark}-{name}" / self.uuid

    def assert_all(self, golden: Result, *, worked: bool = False) -> None:
        """All that must hold in the end, whatever happened on the way. ``worked``: each site did some of it, as there was enough for all."""
        self.settle()
        self.result().assert_same(golden)
        odd = self.ask("SELECT t.id, count(a.id), sum(a.id = t.accepted) FROM task t LEFT JOIN attempt a ON a.task = t.id AND a.state = 5 AND a.void = 0 "
                       "GROUP BY t.id HAVING count(a.id) <> 1 OR sum(a.id = t.accepted) <> 1")  # fmt: skip
        assert not odd, f"(task, attempts that are ok and count, of which accepted): {odd}"
        ledger = self.ledger()
        try:
            assert check(ledger, deep=True) == []
        finally:
            ledger.close()
        done = dict(self.ask("SELECT s.name, count(*) FROM attempt a JOIN site s ON s.id = a.site WHERE a.state = 5 GROUP BY 1"))
        assert not worked or set(done) == {"local", *self.sites}, f"attempts that were ok by site: {done}"
        assert not {key: jobs for key, jobs in self.seen.items() if len(jobs) > 1}
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """After one more conversation: no batch job, no process but shared connections, and in spools only what is to stay."""
        self.converse()
        for name in self.sites:
            until(partial(self._no_batch, name), f"the end of batch jobs at {name}")
            self._accounted(name)
            left = [path for path in (self.sites[name].root / "tmp").glob("icp*/**/*") if self.uuid[:8] in str(path) and not path.is_dir()]
            assert left == [], left
            self._spool_left(self.place(name))
        self._spool_left(self.spool)
        until(lambda: not set(self.processes()) - set(self.masters()), "the end of all processes", 20)
        assert not self.node.exists(), sorted(self.node.rglob("*"))
        assert sorted(self.scratch.iterdir()) == []
        assert not (self.home / "incoming").exists(), sorted((self.home / "incoming").iterdir())

    def _no_batch(self, name: str) -> bool:
        return not self.batch(name, "PENDING", "RUNNING", "COMPLETING")

    def _spool_left(self, spool: Path) -> None:
        for folder in ("incoming", "inbox", "store", "work"):
            left = sorted(os.listdir(spool / folder)) if (spool / folder).exists() else []
            assert left == [], f"{spool / folder} holds {left}; attempts: {[self.attempt(one) for one in left]}"
        assert sorted(str(path.relative_to(spool)) for path in spool.rglob("*.tmp")) == []
        # an agent that died keeps the folder of its journal for the retention, with the cards that it had
        holding = {path.parent.parent.name for path in spool.glob("agents/*/claimed/*")}
        assert holding <= {row[0] for row in self.ask(f"SELECT name FROM agent WHERE state = {int(Agent.ENDED)}")}

    def _accounted(self, name: str) -> None:
        """What accounting says, where there is any: one job for each pilot."""
        pattern, jobs = name_pattern(self.uuid), defaultdict(set)
        for one in queue(self.sites[name]).used() or ():
            match = pattern.match(one.name)
            if match:
                jobs[match[1]].add(one.job)
        assert not {pilot: several for pilot, several in jobs.items() if len(several) > 1}

    def converse(self) -> None:
        """One conversation with each site, outside of ticks."""
        ledger = self.ledger()
        before = dict(os.environ)
        os.environ.update(self.env)
        try:
            engine = Engine(ledger, self.config())
            try:
                for name, site in engine.sites.items():
                    serial, epoch = standing(ledger.db, site.id)
                    if serial:
                        answer = engine.exchange(name, Hello(ledger.uuid, epoch, serial, None), Query())
                        assert isinstance(answer, Answer), answer
                        assert answer.refused is None, answer.refused
            finally:
                engine.close()
        finally:
            os.environ.clear()
            os.environ.update(before)
            ledger.close()

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for site in self.sites.values():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                queue(site).cancel_all()
        super().close()
        for site in self.sites.values():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                site.inside("sh", "-c", f"umount -l /home/alice/.icp/{self.mark}-* 2>/dev/null; rm -rf /home/alice/.icp/{self.mark}-*")

    def story(self) -> str:
        said = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
        jobs = [f"{name}:\n{queue(site).story()}" for name, site in self.sites.items()]
        return "\n".join([super().story(), *jobs, f"disturbed: {dict(self.count)}", said])


def _toml(value: bool) -> str:
    return "true" if value else "false"


def _link(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
