"""The real engine over simulated sites under virtual time, with an oracle of its own beside `ledger check`."""

import math
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from icp.backends.base import Unknown
from icp.backends.spool_client import SpoolPlace
from icp.config import Config, Places, Site
from icp.engine.adoption import adopt
from icp.engine.tick import Engine, Ticked
from icp.ledger import db as ledger_db
from icp.ledger import following
from icp.ledger.check import check
from icp.ledger.control import Control
from icp.ledger.db import Ledger, open_ledger
from icp.ledger.definitions import Definitions
from icp.ledger.sites import resume
from icp.ledger.submit import record
from icp.model.definition import JobSource, TaskDef
from icp.model.plan import PilotSpec, Policy
from icp.pilot import faults
from icp.states import Dataset, Task
from tests.ledger.build import NOW, steering, task
from tests.property.site_simulation import GB, SimulatedAgent, SimulatedSite
from tests.property.slurm_simulation import SlurmSite

QUICK = Policy(backoff=(0, 60), release_jobs=3, gap=120.0)


class Crash(BaseException):
    """The engine's process dies here."""


class Scene:
    """One user's ledger, engine and sites in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        sites: Sequence[str] = ("near",),
        zones: Mapping[str, str] | None = None,
        policy: Policy = QUICK,
        pilots: int = 2,
        walltime: int | None = None,
        slurm: bool = False,
        direct: Collection[str] = (),
        bags: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.now = NOW
        spec = PilotSpec(
            cpus=2, memory=1000 * GB, disk=1000 * GB, gpus=0, max=pilots, max_pending=pilots, walltime=walltime
        )
        configured = {
            name: Site(
                name=name, zone=(zones or {}).get(name, name), root=None, attributes={}, system={}, env={}, scratch=None,
                pilot=replace(spec, direct=name in direct or name in bags), shared=name not in bags,
                scheduler="slurm" if slurm else "none",
            )
            for name in sites
        }
        places = Places(folder / "config.toml", folder, folder, folder / "cache")
        self.config = Config(places, folder / "ledger.sqlite", configured, policy, 1.0, 30.0)
        self.sites: dict[str, SimulatedSite] = {name: SlurmSite(name) if slurm else SimulatedSite(name) for name in sites}
        self.modes: dict[str, object] = {}
        self.late: list[tuple[str, object, object]] = []
        self.crash: tuple[str, int] | None = None
        self.patches = [
            patch.object(
                SpoolPlace,
                "install",
                classmethod(lambda cls, base, ledger: cls(base / ledger, base / "pilot.pyz", "python3")),
            ),
            patch("os.fsync", lambda fd: None),
            patch.object(faults, "visit", self._visit),
            patch.object(ledger_db, "_connect", _quick(ledger_db._connect)),
        ]
        for one in self.patches:
            one.start()
        self.desk: Ledger = open_ledger(self.config.ledger, create=True, now=NOW)
        """The connection of the user's own commands."""
        self.db = self.desk.db
        self.definitions = Definitions(self.db)
        self.ledger: Ledger | None = None
        self.engine: Engine | None = None
        self.restart()
        self.accepted: dict[int, int] = {}
        self.resets = 0
        self.ticks = 0

    def close(self) -> None:
        if self.ledger is not None:
            self.ledger.close()
        self.desk.close()
        for one in self.patches:
            one.stop()

    def restart(self) -> None:
        """The engine's process ends wherever it is, and another one begins."""
        self.crash = None
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = open_ledger(self.config.ledger)
        self.ledger.take_lease(self.now)
        plain = self.ledger.write

        def write():
            self._visit("between transactions")
            return plain()

        self.ledger.write = write  # type: ignore[method-assign]
        self.engine = Engine(self.ledger, self.config, clock=lambda: self.now, exchanger=self._exchange)

    def restore(self, saved: Path) -> None:
        """The ledger is a backup again, which takes the spools over."""
        self.ledger.close()
        self.desk.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.config.ledger}{suffix}").unlink(missing_ok=True)
        shutil.copy(saved, self.config.ledger)
        self.desk = open_ledger(self.config.ledger)
        self.db = self.desk.db
        self.definitions = Definitions(self.db)
        self.accepted = {}
        ledger = open_ledger(self.config.ledger)
        adopt(ledger, self.config, clock=lambda: self.now, exchanger=self._exchange)
        ledger.close()
        self.ledger = None
        self.restart()

    def submit(self, jobs: int | JobSource, *defs: TaskDef, name: str = "d", stop_loss: int = 0) -> int:
        one = steering(1, *(defs or (task("a", outputs=["a.txt"]),)), name=name, stop_loss=stop_loss)
        one = replace(one, jobs=JobSource("count", jobs) if isinstance(jobs, int) else jobs)
        with self.desk.write():
            return record(
                self.desk, one, uuid=f"00000000-0000-0000-0000-{name:>012}", seed=1, directory=str(self.folder),
                outputs=str(self.folder / "outputs" / name), pack=None, now=self.now,
            )  # fmt: skip

    def control(self, dataset: int) -> Control:
        return Control(self.desk, self.definitions, dataset, self.now)

    # -- time and talk ------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for site in self.sites.values():
            site.clock += seconds

    def tick(self, seconds: float = 1.0, *, verify: bool = True) -> Ticked:
        self.pass_time(seconds)
        self.ticks += 1
        assert self.engine is not None
        try:
            ticked = self.engine.tick()
        except Crash:
            self.restart()
            ticked = Ticked()
        finally:
            self.crash = None
        if verify:
            self.verify()
        return ticked

    def _visit(self, name: str) -> None:
        if self.crash is not None and name == self.crash[0]:
            self.crash = (name, self.crash[1] - 1)
            if self.crash[1] <= 0:
                self.crash = None
                raise Crash(name)

    def _exchange(self, config, hello, query):
        """``modes[site]`` says what becomes of the next conversation: a word, or the share of the answer that arrives."""
        site, mode = self.sites[config.name], self.modes.pop(config.name, None)
        if mode == "unreachable":
            return Unknown("no route to host")
        if mode == "answer lost":
            site.exchange(hello, query)
            return Unknown("timed out")
        if mode == "late":
            self.late.append((config.name, hello, query))
            return Unknown("timed out")
        if mode == "doubled":
            site.exchange(hello, query)
        return site.exchange(hello, query, cut=mode if isinstance(mode, float) else None)

    def deliver_late(self) -> None:
        """A conversation that was believed dead reaches its site after all; nobody reads the answer."""
        if self.late:
            name, hello, query = self.late.pop(0)
            self.sites[name].exchange(hello, query)

    # -- truth --------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """What no sequence of events may break."""
        wrong = check(self.desk)
        assert not wrong, wrong
        rows = dict(self.db.execute("SELECT id, accepted FROM task WHERE accepted IS NOT NULL").fetchall())
        for number, attempt in rows.items():
            before = self.accepted.get(number)
            assert before in (None, attempt) or self._was_taken_back(before), (
                f"task {number}: {before} and {attempt} were accepted"
            )
        self.accepted = rows
        for dataset, n in self.db.execute("SELECT dataset, sum(n) FROM dataset_tally GROUP BY dataset").fetchall():
            jobs = self.db.execute("SELECT jobs FROM dataset WHERE id = ?", (dataset,)).fetchone()[0]
            graph = self.definitions.graph(dataset)
            assert n <= jobs * len(graph.tasks) + max(1, jobs) * len(graph.finals)
        self._statistics()

    def _was_taken_back(self, attempt: int) -> bool:
        return bool(self.db.execute("SELECT void FROM attempt WHERE id = ?", (attempt,)).fetchone()[0])

    def _statistics(self) -> None:
        """What the sites say that accepted attempts reported, against what is kept."""
        said: dict[tuple[int, int, str], list[float]] = defaultdict(list)
        stale = set(self.db.execute("SELECT dataset, task_def FROM summary WHERE stale = 1").fetchall())
        bent = {key for site in self.sites.values() for key in site.bent}
        reports = {key: stats for site in self.sites.values() for key, stats in site.stats.items()}
        for dataset, task_def, key in self.db.execute(
            "SELECT t.dataset, t.task_def, a.key FROM task t JOIN attempt a ON a.id = t.accepted"
        ).fetchall():
            if key.hex() in bent:
                stale.add((dataset, task_def))
                continue
            for name, value in reports[key.hex()].items():
                said[dataset, task_def, name].append(value)
        kept = {
            (row[0], row[1], row[2]): row[3:]
            for row in self.db.execute(
                "SELECT s.dataset, s.task_def, n.text, s.n, s.sum, s.min, s.max FROM summary s JOIN name n ON n.id = s.stat"
            ).fetchall()
        }
        for key in {*said, *kept}:
            if key[:2] in stale:
                continue
            values = said[key]
            n, total, low, high = kept[key]
            assert (n, low, high) == (len(values), min(values), max(values)), key
            assert math.isclose(total, math.fsum(values), rel_tol=1e-9, abs_tol=1e-9), key

    def states(self, dataset: int) -> dict[tuple[int, str], Task]:
        return {
            (row[0], row[1]): Task(row[2])
            for row in self.db.execute(
                "SELECT t.job, d.name, t.state FROM task t JOIN task_def d ON d.id = t.task_def WHERE t.dataset = ? ORDER BY t.job, d.idx",
                (dataset,),
            ).fetchall()
        }

    def state(self, dataset: int) -> Dataset:
        return Dataset(self.db.execute("SELECT state FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])

    def one(self, query: str, *values):
        row = self.db.execute(query, values).fetchone()
        return None if row is None else row[0] if len(row) == 1 else row

    # -- the good end -------------------------------------------------------------------------------------------

    def settle(self, ticks: int = 60, seconds: float = 120.0) -> None:
        """Faults stop and the sites behave, until nothing is live any more."""
        self.modes.clear()
        self.crash = None
        for _ in range(ticks):
            for site in self.sites.values():
                site.submits.clear()
                site.chunk = 1 << 20
                site.behave()
            with self.desk.write() as db:
                for (number,) in db.execute("SELECT id FROM site WHERE paused IS NOT NULL").fetchall():
                    resume(db, number)  # a person looked, and found it mended
            self.tick(seconds)
            if not self.moving():
                return
        raise AssertionError(f"still at work after {ticks} ticks: {self.moving()}, {self._standing()}")

    def _standing(self) -> list[object]:
        sites = self.db.execute("SELECT name, paused, hold - ?, young FROM site", (self.now,)).fetchall()
        pilots = self.db.execute("SELECT id, state, batch, word, said, stopping, others, missing, reason FROM pilot WHERE live = 1").fetchall()
        return [sites, pilots]

    def moving(self) -> list[tuple[object, ...]]:
        """What is still live: classes of tasks, files on their way, jobs that could be rows."""
        found: list[tuple[object, ...]] = [("due", one) for one in following.due(self.db)]
        for dataset, jobs, released, coming in self.db.execute(
            "SELECT id, jobs, released, coming FROM dataset WHERE state = 0"
        ).fetchall():
            rows = self.db.execute(
                "SELECT task_def, state, site, n FROM live_class WHERE dataset = ? AND state > 0 AND n > 0", (dataset,)
            ).fetchall()
            found += [("class", *row) for row in rows]
            ready = self.db.execute(
                "SELECT count(*) FROM final_left WHERE dataset = ? AND left = 0 AND made = 0 AND dataset NOT IN (SELECT dataset FROM follow WHERE open = 1)",
                (dataset,),
            ).fetchone()[0]
            again = self.db.execute(
                "SELECT count(*) FROM range WHERE dataset = ? AND action = 'release'", (dataset,)
            ).fetchone()[0]
            if coming or released < jobs or again or ready:
                found.append(("dataset", dataset, jobs, released, coming, again, ready))
        return found

    def homes(self, dataset: int) -> dict[str, bytes]:
        """The outputs at home by relative path."""
        base = Path(self.one("SELECT outputs FROM dataset WHERE id = ?", dataset))
        return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}

    def live_agents(self) -> list[tuple[SimulatedSite, SimulatedAgent]]:
        return [(site, agent) for site in self.sites.values() for agent in site.agents.values()]

    def set_policy(self, **changes: object) -> None:
        self.config = replace(self.config, policy=replace(self.config.policy, **changes))
        self.restart()


def _quick(connect):
    def connected(path, *, read_only=False):
        db = connect(path, read_only=read_only)
        db.execute("PRAGMA synchronous = OFF")
        return db

    return connected
