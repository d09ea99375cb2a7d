"""A site whose batch system behaves like SLURM: forgets what ended, accounts late or not at all, requeues, submits twice (a simulation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icp.model.batch import batch_name
from tests.property.site_simulation import Job, SimulatedSite

MIN_JOB_AGE = 300.0
WORDS = {"pending": "PENDING", "running": "RUNNING"}


@dataclass
class SlurmJob(Job):
    """``ended_at``: moment of the site's clock; ``cancelled``: by scancel."""

    id: int = 0
    ended_at: float | None = None
    cancelled: bool = False
    reason: str = "Priority"


class SlurmSite(SimulatedSite):
    """Jobs have numbers, several may have one pilot's name; ``jobs`` holds the newest of each pilot, ``queue`` all."""

    def __init__(self, name: str, *, cpus: int = 2) -> None:
        super().__init__(name, cpus=cpus)
        self.queue: list[SlurmJob] = []
        self.accounting = "works"
        """works, late (a job is known to have ended 200 s after it did), fails, none"""
        self.forgot = False
        """slurmctld lost its state: it lists nothing, though jobs go on."""
        self.most: dict[str, int] = {}
        """pilot -> jobs of it that lived at once"""

    def batch(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if "squeue" in argv:
            return self._squeue() if self.asked_batch else (1, "", "slurm_load_jobs error: Unable to contact slurm controller")
        assert argv[0] == "sacct"
        if self.accounting == "none":
            return 1, "", "Slurm accounting storage is disabled"
        if self.accounting == "fails":
            return 1, "", "sacct: error: slurm_persist_conn_open: Connection refused"
        return self._sacct({int(job) for job in argv[argv.index("-j") + 1].split(",")})

    def _name(self, job: SlurmJob) -> str:
        assert self.owner is not None
        return batch_name(self.owner["ledger"], job.pilot)

    def _squeue(self) -> tuple[int, str, str]:
        lines = ["77|RUNNING|None|somebody's | own job"]
        for job in self.queue:
            self._age(job)
            gone = job.ended_at is not None and self.clock - job.ended_at > MIN_JOB_AGE
            if self.forgot or gone or job.state in ("absent", "unknown"):
                continue
            reason = job.reason if job.state == "pending" else "None"
            lines.append(f"{job.id}|{WORDS.get(job.state) or self._end(job)}|{reason}|{self._name(job)}")
        return 0, "".join(line + "\n" for line in lines), ""

    def _end(self, job: SlurmJob) -> str:
        return "CANCELLED" if job.cancelled else "FAILED" if job.exit else "COMPLETED"

    def _sacct(self, ids: set[int]) -> tuple[int, str, str]:
        lines = []
        for job in self.queue:
            if job.id not in ids or job.state == "absent":
                continue
            late = self.accounting == "late" and (job.ended_at is None or self.clock - job.ended_at < 200)
            word = "RUNNING" if job.ended_at is None or late else self._end(job)
            lines.append(f"{job.id}|{self._name(job)}|{word}|{job.exit or 0}:0|00:00:10|2")
        return 0, "".join(line + "\n" for line in lines), ""

    def _age(self, job: SlurmJob) -> None:
        if job.state == "ended" and job.ended_at is None:
            job.ended_at = self.clock
        elif job.state in WORDS:
            job.ended_at = None

    def _submit(self, pilot: str) -> dict[str, Any]:
        how = self.submits.pop(0) if self.submits else "ok"
        if pilot in self.receipts:
            return self.receipts[pilot]
        assert pilot not in self.jobs, "a pilot was submitted twice"
        for _ in range({"nothing": 0, "refused": 0, "twice": 2}.get(how, 1)):
            self.jobs[pilot] = SlurmJob(pilot, id=100 + len(self.queue))
            self.queue.append(self.jobs[pilot])
        if how in ("ok", "twice"):
            self.receipts[pilot] = {"rc": 0, "out": f"Submitted batch job {self.jobs[pilot].id}\n", "err": ""}
        elif how == "refused":
            self.receipts[pilot] = {"rc": 1, "out": "", "err": "sbatch: error: QOSMaxSubmitJobPerUserLimit"}
        self.count()
        return self.receipts.get(pilot, {"rc": None, "out": "", "err": "interrupted while submitting"})

    def _kill(self, pilot: str, argv: Sequence[str]) -> dict[str, Any]:
        assert argv[0] == "scancel"
        wanted = [job for job in self.queue if str(job.id) in argv or (f"--name={self._name(job)}" in argv)]
        assert all(job.pilot == pilot for job in wanted), "a job of another pilot was cancelled"
        return self.killing([job for job in wanted if job.state != "ended"])

    def end_job(self, job: Job, state: str, code: int | None) -> None:
        super().end_job(job, state, code)
        assert isinstance(job, SlurmJob)
        job.cancelled = True

    def jobs_of(self, pilot: str) -> list[Job]:
        return [job for job in self.queue if job.pilot == pilot]

    def all_jobs(self) -> list[Job]:
        return list(self.queue)

    def requeue(self, job: Job) -> None:
        """An operator does it, whatever the script asked for: the agents are gone, and the same job waits again."""
        for agent in self.at_work(None):
            if agent.job is job:
                self.die(agent, supervisor=False)
        job.state = "pending"

    def count(self) -> None:
        for job in self.queue:
            self.most[job.pilot] = sum(one.state in ("pending", "running") for one in self.queue if one.pilot == job.pilot)

    def living(self) -> list[Job]:
        """Jobs that wait or run."""
        return [job for job in self.queue if job.state in ("pending", "running")]

    def behave(self) -> None:
        """What was wrong with the batch system is mended."""
        self.forgot, self.accounting = False, "works"
        super().behave()
