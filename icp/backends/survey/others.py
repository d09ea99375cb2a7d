"""Batch systems beside SLURM as far as they are looked at: that they are there, and answer (hides by which command each is told from the others)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from icp.backends.survey.batch import Batch, Part

__all__ = ["OTHERS", "PlainLook"]


class PlainLook:
    """No partitions, no accounts: a person names them.

    ``version`` prints the release, its first number with a dot counts; ``asks`` fails while the batch system is down.
    """

    def __init__(self, scheduler: str, command: str, version: str, asks: str) -> None:
        self.scheduler, self.command, self.asks = scheduler, command, asks
        self.script = f"run {scheduler}.version {version}; run {scheduler}.asked {asks}"

    def read(self, parts: Mapping[str, Part]) -> Batch:
        asked = parts.get(f"{self.scheduler}.asked", Part(""))
        number = re.search(r"\d+(?:\.\d+)+", parts.get(f"{self.scheduler}.version", Part("")).text)
        trouble = ""
        if asked.code != 0:
            trouble = f"{self.asks.split()[0]} failed: {asked.lines[-1].strip()[:200]}" if asked.lines else f"{self.asks.split()[0]} did not answer"
        return Batch(version=number[0] if number else "", trouble=trouble)


# qsub is of three of them: each is known by a command that the others lack, and Torque, whose commands PBS has too, comes after PBS
OTHERS = (
    PlainLook("sge", "qconf", "qstat -help", "qconf -sql"),
    PlainLook("pbs", "pbs_rstat", "qstat --version", "qstat -B"),
    PlainLook("torque", "pbsnodes", "qstat --version", "qstat -Q"),
    PlainLook("lsf", "bsub", "bsub -V", "bqueues"),
    PlainLook("condor", "condor_submit", "condor_version", "condor_q -totals"),
)
