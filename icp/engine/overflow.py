"""Jobs of a person's own HTCondor queue, taken over and given back (hides the order in which ledger and pool are told).

The ledger knows what is wanted before the pool is told, and believes only listings. A job is the pool's until a listing shows that we hold it, and
it runs here only then; its outputs are in place before it is removed there; and it is cancelled here for good before it is released there. So
a kill between any two steps loses no job and runs none in both places.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from icp.backends import condor_queue as queue
from icp.backends.base import Result, Transport, Unknown
from icp.config import Config
from icp.dsl.foreign.described import describe
from icp.dsl.foreign.job_ad import ATTRIBUTES, AdJob, destination, read_ad, refusal
from icp.dsl.steering import described
from icp.engine.submission import Submission, assemble
from icp.errors import BadInput, Refused
from icp.ledger import overflow as rows
from icp.ledger import submit as recording
from icp.ledger.control import Control
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.overflow import Taken
from icp.ledger.submit import record
from icp.pilot import faults

__all__ = ["Overflow", "Passed", "only_one"]

Listing = Mapping[queue.Key, Mapping[str, Any]]
TIMEOUT = 120.0
JOBS_AT_ONCE = 100
"""Jobs whose outputs are delivered in one session."""


@dataclass(slots=True)
class Passed:
    """What one pass did."""

    wanted: list[str] = field(default_factory=list)
    """Jobs that are to be taken over; with ``dry_run`` those that would be."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """job -> why it cannot run elsewhere"""
    datasets: list[str] = field(default_factory=list)
    delivered: int = 0
    released: int = 0
    troubles: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def only_one(config: Config) -> Iterator[None]:
    """Hold the lock that makes one process take over jobs for this ledger; Refused if another one does."""
    config.places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(str(config.places.state / "overflow.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Refused("another `icp overflow` runs already", "it does the work") from None
    try:
        yield
    finally:
        lock.release()


class Overflow:
    """The jobs of one pool. The caller holds the lock of ``only_one``."""

    def __init__(self, ledger: Ledger, config: Config, pool: str, transport: Transport, clock: Callable[[], float] = time.time) -> None:
        self.ledger, self.db, self.config, self.pool, self.transport, self.clock = ledger, ledger.db, config, pool, transport, clock
        self.folder = config.places.state / "overflow" / pool
        self.result = Passed()

    def once(self, limit: int | None = None, dry_run: bool = False) -> Passed:
        """One pass: see what is there, take over up to ``limit`` idle jobs, give back what has ended here."""
        self.result = Passed()
        if dry_run:
            found = self._list(act=False)
            if found is not None:
                self._candidates(found, limit)
            self.result.counts = rows.counts(self.db, self.pool)
            return self.result
        found = self._list()
        if found is not None:
            self._settle(found)
            wanted = self._candidates(found, limit)
            if wanted:
                with self.ledger.write() as db:
                    rows.want(db, self.pool, wanted, "wanted", self.clock())
                faults.visit("overflow.wanted")
                found = self._list()
                if found is not None:
                    self._settle(found)
        if found is not None:
            self._import()
            if self._give_back():
                found = self._list()
                if found is not None:
                    self._settle(found)
        self.result.counts = rows.counts(self.db, self.pool)
        return self.result

    # -- the pool -----------------------------------------------------------------------------------------------

    def _list(self, act: bool = True) -> Listing | None:
        """Do what the ledger says is to be done, and see what is there then."""
        due: dict[str, list[queue.Key]] = {"wanted": [], "delivered": [], "releasing": []}
        for one in rows.live(self.db, self.pool) if act else ():
            if one.state in due:
                due[one.state].append(one.key)
        script = queue.orders(self.ledger.uuid, due["wanted"], due["delivered"], due["releasing"])
        outcome = self.transport.run(["/bin/sh", "-c", f"{script}\n{queue.listing(ATTRIBUTES)}"], b"", TIMEOUT)
        faults.visit("overflow.ordered")
        found = queue.parse_listing(outcome)
        if isinstance(found, Unknown):
            self.result.troubles.append(found.why)
            return None
        return found

    def _settle(self, found: Listing) -> None:
        """What the listing says of those that we know, and of those that we hold without knowing."""
        now = self.clock()
        held = {key for key, ad in found.items() if queue.ours(ad, self.ledger.uuid)}
        idle = {key for key, ad in found.items() if ad.get("JobStatus") == 1}
        moves: dict[str, list[int]] = {"held": [], "removed": [], "released": [], "gone": []}
        forgotten, lost = [], []
        known = rows.live(self.db, self.pool)
        for one in known:
            there = one.key in held and _queued(found[one.key]) == one.queued
            if one.state == "wanted" and there:
                moves["held"].append(one.id)
            elif one.state == "wanted" and one.key not in idle:
                forgotten.append(one.id)  # it began to run, or it left
            elif one.state == "held" and not there:
                moves["gone"].append(one.id)
            elif one.state == "here" and not there:
                lost.append(one)
            elif one.state == "delivered" and not there:
                moves["removed"].append(one.id)
            elif one.state == "releasing" and not there:
                moves["released"].append(one.id)
        for one in lost:
            self._cancel(one)
        strange = [found[key] for key in sorted(held - {one.key for one in known})]
        with self.ledger.write() as db:
            for state, ids in moves.items():
                rows.move(db, ids, state, now)
            rows.move(db, [one.id for one in lost], "gone", now, "its owner took it back, or removed it")
            rows.forget(db, forgotten)
            for ad in strange:
                # a hold that was ordered long ago came late: what had an end is given back, what had none is taken
                before = rows.ended(db, self.pool, *_key(ad), _queued(ad))
                if before is None:
                    rows.want(db, self.pool, [ad], "held", now)
                else:
                    rows.move(db, [before.id], "delivered" if before.state == "removed" else "releasing", now)
        self.result.released += len(moves["released"])

    def _candidates(self, found: Listing, limit: int | None) -> list[Mapping[str, Any]]:
        """Idle jobs that are marked, can run elsewhere, and were never taken over; no more than ``limit`` are under way at once."""
        known = rows.live(self.db, self.pool)
        room = len(found) if limit is None else max(0, limit - len(known))
        busy = {one.key for one in known}
        wanted: list[Mapping[str, Any]] = []
        for key, ad in sorted(found.items()):
            if ad.get("JobStatus") != 1 or key in busy or rows.ended(self.db, self.pool, *key, _queued(ad)) is not None:
                continue
            if why := refusal(ad):
                self.result.passed_over[f"{key[0]}.{key[1]}"] = why
            elif len(wanted) < room:
                wanted.append(ad)
        self.result.wanted += [f"{ad['ClusterId']}.{ad['ProcId']}" for ad in wanted]
        return wanted

    # -- from there ---------------------------------------------------------------------------------------------

    def _import(self) -> None:
        """What we hold becomes a dataset for each cluster."""
        clusters: dict[int, list[Taken]] = {}
        for one in rows.live(self.db, self.pool):
            if one.state == "held":
                clusters.setdefault(one.cluster, []).append(one)
        for cluster, taken in clusters.items():
            good: list[tuple[Taken, AdJob]] = []
            for one in taken:
                try:
                    good.append((one, read_ad(one.ad)))
                except ValueError as error:
                    self._release([one], str(error))
            if good:
                self._dataset(cluster, good)

    def _dataset(self, cluster: int, good: list[tuple[Taken, AdJob]]) -> None:
        name = self._free_name(re.sub(r"[^A-Za-z0-9._-]", "-", f"{self.pool}-{cluster}"))
        folder = self.folder / name
        files = list(dict.fromkeys(file for _, job in good for file in job.files))
        taken = [one for one, _ in good]
        there = self._fetch(files, folder)
        if isinstance(there, str):
            self._release(taken, there)
            return
        if there is None:
            return
        lost = [one for one, job in good if any(file not in there for file in job.files)]
        self._release(lost, "an input cannot be read at the pool")
        good = [(one, job) for one, job in good if one not in lost]
        if not good:
            return
        try:
            submission = self._submission(name, folder, [job for _, job in good])
        except (BadInput, ValueError) as error:
            mistakes = getattr(error, "mistakes", ())
            self._release([one for one, _ in good], mistakes[0] if mistakes else str(error))
            return
        faults.visit("overflow.fetched")
        with self.ledger.write() as db:
            number = record(
                self.ledger, submission.steering, uuid=submission.uuid, seed=submission.seed, directory=str(submission.directory),
                outputs=str(submission.outputs), pack=submission.pack, now=self.clock(),
            )  # fmt: skip
            rows.place(db, [(one.id, job) for job, (one, _) in enumerate(good)], number, self.clock())
        faults.visit("overflow.imported")
        self.result.datasets.append(name)

    def _submission(self, name: str, folder: Path, jobs: Sequence[AdJob]) -> Submission:
        found = describe(name, [job.job for job in jobs])
        found.table.update(name=name, files=sorted({file.lstrip("/") for job in jobs for file in job.files}), max_tries=max(job.max_tries for job in jobs))
        asked = {job.requirements for job in jobs}
        if len(asked) > 1:
            raise ValueError("IcpRequirements differs between jobs of one cluster")
        if asked != {""}:
            found.table["requirements"] = asked.pop()
        text = f"# jobs of cluster {name.rpartition('-')[2]} of the pool {self.pool}\n"
        return assemble(described(found, text, name), folder, outputs=folder / "outputs")

    def _free_name(self, name: str) -> str:
        for number in range(1, 10_000):
            one = name if number == 1 else f"{name}-{number}"
            try:
                recording.check_name(self.db, one)
            except BadInput:
                continue
            if not (self.folder / one / "outputs").exists():
                return one
        raise Refused(f"there are too many datasets named {name}")

    def _fetch(self, files: Sequence[str], folder: Path) -> set[str] | str | None:
        """The files that are here now; a sentence where that can never be; None where the pool did not answer."""
        if not files:
            folder.mkdir(parents=True, exist_ok=True)
            return set()
        outcome = self.transport.run(queue.fetch_argv(), b"".join(os.fsencode("." + file) + b"\0" for file in files), TIMEOUT)
        if isinstance(outcome, Unknown):
            self.result.troubles.append(f"inputs cannot be fetched: {outcome.why}")
            return None
        if outcome.code == queue.TOO_LARGE:
            return f"its inputs are larger than {queue.FETCH_LIMIT // 1000} MB"
        there: set[str] = set()
        for name, (data, executable) in queue.fetched(outcome.out, files).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if executable else 0o644)
            there.update(file for file in files if file.lstrip("/") == name or name.startswith(file.lstrip("/") + "/"))
        return there

    # -- back there ---------------------------------------------------------------------------------------------

    def _give_back(self) -> bool:
        """Outputs of what is done, and jobs that came to nothing; whether the pool is to be told something."""
        ready: list[tuple[Taken, tuple[tuple[str, str], ...]]] = []
        told = False
        for one in rows.live(self.db, self.pool):
            if one.state != "here":
                told |= one.state in ("delivered", "releasing")
                continue
            assert one.dataset is not None and one.job is not None
            found = rows.standing(self.db, one.dataset, one.job)
            if found.word == "done":
                ready.append((one, found.files))
            elif found.word in ("failed", "cancelled"):
                self._cancel(one)
                told |= self._release_if_still(one, found.why)
        return self._deliver(ready) or told

    def _release_if_still(self, one: Taken, why: str) -> bool:
        """It is cancelled for good here, so it may run there."""
        assert one.dataset is not None and one.job is not None
        with self.ledger.write() as db:
            if rows.standing(db, one.dataset, one.job).word != "cancelled":
                return False
            rows.move(db, [one.id], "releasing", self.clock(), why)
        return True

    def _release(self, taken: Iterable[Taken], why: str) -> None:
        """What never ran here goes back."""
        with self.ledger.write() as db:
            rows.move(db, [one.id for one in taken], "releasing", self.clock(), why)

    def _cancel(self, one: Taken) -> None:
        if one.dataset is None or one.job is None:
            return
        control = Control(self.ledger, Definitions(self.db), one.dataset, self.clock())
        control.cancel_jobs(one.job, one.job)

    def _deliver(self, ready: Sequence[tuple[Taken, tuple[tuple[str, str], ...]]]) -> bool:
        """Put outputs where the jobs wanted them, some in a session; only then a job counts as delivered."""
        batch: list[tuple[Taken, queue.Delivery]] = []
        size, done = 0, False
        for one, files in ready:
            try:
                data = tuple((Path(path).read_bytes(), destination(one.ad, name)) for name, path in files)
            except OSError as error:
                self.result.troubles.append(f"job {one.cluster}.{one.proc}: its outputs are not here: {error}")
                continue
            own = sum(len(part) for part, _ in data)
            if batch and (size + own > queue.DELIVER_LIMIT or len(batch) >= JOBS_AT_ONCE):
                done |= self._send(batch)
                batch, size = [], 0
            batch.append((one, queue.Delivery(one.key, data)))
            size += own
        return self._send(batch) | done if batch else done

    def _send(self, batch: Sequence[tuple[Taken, queue.Delivery]]) -> bool:
        argv, data = queue.deliver(self.ledger.uuid, [delivery for _, delivery in batch])
        outcome = self.transport.run(argv, data, TIMEOUT)
        faults.visit("overflow.delivered")
        there = queue.delivered(outcome)
        ids = [one.id for one, _ in batch if one.key in there]
        with self.ledger.write() as db:
            rows.move(db, ids, "delivered", self.clock())
        self.result.delivered += len(ids)
        if len(ids) < len(batch):
            lacking = next(one for one, _ in batch if one.key not in there)
            why = outcome.why if isinstance(outcome, Unknown) else _last(outcome)
            self.result.troubles.append(f"outputs of {len(batch) - len(ids)} jobs ({lacking.cluster}.{lacking.proc}, ...) are not in place there: {why}")
        return bool(ids)


def _key(ad: Mapping[str, Any]) -> tuple[int, int]:
    return int(ad["ClusterId"]), int(ad["ProcId"])


def _queued(ad: Mapping[str, Any]) -> int:
    return int(ad.get("QDate") or 0)


def _last(outcome: Result) -> str:
    lines = outcome.err.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "they are not held by icp any more"
