"""What the lab's batch systems themselves say of jobs of ours, whatever icp makes of it (hides their commands)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from tests.lab.sites import LabSite

__all__ = ["Queue", "Used", "queue"]


@dataclass(frozen=True)
class Used:
    """One job, as accounting has it."""

    job: str
    name: str
    core_seconds: float


class Queue:
    """Asked inside of a site, so that no fault between here and there matters."""

    def __init__(self, site: LabSite) -> None:
        self.site = site

    def listed(self) -> list[tuple[str, str, str]]:
        """(job, PENDING | RUNNING | COMPLETING or another word, name) of all jobs that the listing shows; nothing where it cannot be asked."""
        raise NotImplementedError

    def cancel(self, jobs: Iterable[str]) -> None:
        raise NotImplementedError

    def cancel_all(self) -> None:
        self.cancel([job for job, _, _ in self.listed()])

    def used(self) -> list[Used] | None:
        """All jobs that ended; None where there is no accounting."""
        raise NotImplementedError

    def story(self) -> str:
        return "\n".join(" ".join(one) for one in self.listed())

    def _alice(self, *words: str) -> str:
        return self.site.inside("runuser", "-u", "alice", "--", *words).stdout


class Slurm(Queue):
    folder = ""

    def listed(self) -> list[tuple[str, str, str]]:
        out = self.site.inside(f"{self.folder}squeue", "-h", "-a", "-t", "all", "-o", "%i|%T|%j").stdout
        return [(job, word, name) for job, word, name in (line.split("|", 2) for line in out.splitlines())]

    def cancel(self, jobs: Iterable[str]) -> None:
        self.site.inside(f"{self.folder}scancel", *jobs)

    def cancel_all(self) -> None:
        self.site.inside(f"{self.folder}scancel", "-u", "alice")

    def used(self) -> list[Used] | None:
        done = self.site.inside(f"{self.folder}sacct", "-nXPa", "-o", "JobIDRaw,CPUTimeRAW,JobName")
        if done.returncode != 0:
            return None
        return [Used(job, name, float(cpu)) for job, cpu, name in (line.split("|", 2) for line in done.stdout.splitlines())]


class Torque(Slurm):
    """Torque's commands are over SLURM, whose own the site's users do not see."""

    folder = "/opt/icp-lab/torque/slurm/"


class GridEngine(Queue):
    def listed(self) -> list[tuple[str, str, str]]:
        text = self.site.inside("qstat", "-u", "*", "-xml").stdout
        found = []
        for one in re.findall(r"<job_list.*?</job_list>", text, re.DOTALL):
            job, name, state = (re.search(rf"<{tag}>(.*?)</{tag}>", one) for tag in ("JB_job_number", "JB_name", "state"))
            assert job and name and state, one
            found.append((job[1], "PENDING" if "q" in state[1] else "RUNNING" if state[1] in ("r", "t") else "COMPLETING", name[1]))
        return found

    def cancel(self, jobs: Iterable[str]) -> None:
        self._alice("qdel", *jobs)

    def used(self) -> list[Used] | None:
        found = []
        for block in self.site.inside("qacct", "-j").stdout.split("=" * 62):
            rows = dict(re.findall(r"^(\w+) +(.*?) *$", block, re.MULTILINE))
            if "jobnumber" in rows:
                found.append(Used(rows["jobnumber"], rows["jobname"], float(rows["ru_wallclock"].rstrip("s")) * int(rows["slots"])))
        return found


class Condor(Queue):
    words: ClassVar = {1: "PENDING", 2: "RUNNING", 3: "COMPLETING", 4: "COMPLETED", 5: "HELD", 6: "RUNNING", 7: "RUNNING"}

    def _ads(self, *words: str) -> list[dict[str, object]]:
        try:
            found = json.loads(self.site.inside(*words, "-json").stdout or "[]")
        except ValueError:
            return []
        return list(found)

    def listed(self) -> list[tuple[str, str, str]]:
        return [(f"{ad['ClusterId']}.{ad['ProcId']}", self.words[ad["JobStatus"]], str(ad.get("IcpPilot", "")))  # type: ignore[index]
                for ad in self._ads("condor_q", "-allusers")]  # fmt: skip

    def cancel(self, jobs: Iterable[str]) -> None:
        self._alice("condor_rm", *jobs)

    def used(self) -> list[Used] | None:
        return [
            Used(f"{ad['ClusterId']}.{ad['ProcId']}", str(ad.get("IcpPilot", "")), float(ad["RemoteWallClockTime"]) * int(ad.get("CpusProvisioned", 1)))  # type: ignore[arg-type,call-overload]
            for ad in self._ads("condor_history")
        ]


_KINDS: dict[str, type[Queue]] = {"slurm": Slurm, "torque": Torque, "sge": GridEngine, "condor": Condor}


def queue(site: LabSite) -> Queue:
    return _KINDS[site.kind](site)
