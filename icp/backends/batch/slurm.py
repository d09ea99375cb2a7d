"""SLURM: one question for all pilots, and pure parsers of the answers (hides its words and its lies).

``squeue`` knows what waits and runs, and for MinJobAge seconds what ended; ``sacct``, where there is accounting, knows what
ended, a while later. So:

- A command that failed tells nothing: slurmctld may be down, or busy.
- Jobs are found by their name, in a full listing, never by asking for ids: one purged id makes ``squeue -j`` fail for all.
- ``sacct`` is believed for ends only. It says PENDING or RUNNING of jobs long gone (slurmdbd was down when they ended), knows new
  jobs late, and calls them ``allocation`` until it has heard their name. Its ids come round again: the name must be ours.
- A cancelled job's exit code is 0:0. That is no success.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.backends.batch.by_parsl import ByParsl
from icp.backends.batch.listing import ASKED_AT_ONCE, chosen, combine, failed, seconds
from icp.model.batch import Known, name_pattern

__all__ = ["NEVER", "SLURM", "Slurm", "combine", "parse_sacct", "parse_squeue", "sacct_argv", "squeue_argv"]


SLURM: Mapping[str, str] = {
    # base states of slurm.h
    "PENDING": "pending",
    "RUNNING": "running",
    "SUSPENDED": "running",  # by an operator or for another job: it goes on later
    "COMPLETED": "ended",
    "CANCELLED": "ended",
    "FAILED": "ended",
    "TIMEOUT": "ended",
    "NODE_FAIL": "ended",
    "PREEMPTED": "ended",
    "BOOT_FAIL": "ended",
    "DEADLINE": "ended",
    "OUT_OF_MEMORY": "ended",
    # flags, printed in place of the base state
    "CONFIGURING": "pending",  # nodes boot
    "POWER_UP_NODE": "pending",
    "REQUEUED": "pending",
    "REQUEUE_FED": "pending",
    "REQUEUE_HOLD": "pending",
    "RESV_DEL_HOLD": "pending",
    "SPECIAL_EXIT": "pending",  # requeued and held
    "COMPLETING": "running",  # processes may still be there
    "RESIZING": "running",
    "SIGNALING": "running",
    "STAGE_OUT": "running",
    "STOPPED": "running",
    "UPDATE_DB": "running",
    "EXPEDITING": "pending",
    "LAUNCH_FAILED": "ended",
    "RECONFIG_FAIL": "ended",
    "REVOKED": "unknown",  # another cluster of the federation has it
}
"""Every word that ``squeue -o %T`` and ``sacct -o State`` may print -> ours."""

NEVER: Mapping[str, str] = {
    "PartitionTimeLimit": "the walltime is over the partition's limit: lower site.NAME.pilot.walltime or choose another partition",
    "PartitionNodeLimit": "the partition has not so many nodes for one job: lower site.NAME.pilot.nodes",
    "PartitionConfig": "no node of the partition has so many cpus, so much memory or such gpus: ask for less in site.NAME.pilot",
    "PartitionDown": "the partition is down: the site has to raise it, or choose another one",
    "PartitionInactive": "the partition is closed: the site has to open it, or choose another one",
    "BadConstraints": "no node has what site.NAME.pilot.constraint asks for",
    "AccountNotAllowed": "the partition is not open to this account: set site.NAME.pilot.account",
    "QOSNotAllowed": "the partition is not open to this QOS: set site.NAME.pilot.qos",
    "InvalidAccount": "the account does not exist any more: set site.NAME.pilot.account",
    "InvalidQOS": "the QOS does not exist any more: set site.NAME.pilot.qos",
    "JobHeldUser": "you hold the job: `scontrol release` it there",
    "JobHeldAdmin": "an operator of the site holds the job: ask the site",
    "DependencyNeverSatisfied": "it waits for a job that failed",
    "QOSMaxWallDurationPerJobLimit": "the walltime is over the QOS's limit: lower site.NAME.pilot.walltime",
    "AssocMaxWallDurationPerJobLimit": "the walltime is over the account's limit: lower site.NAME.pilot.walltime",
    "QOSMaxCpuPerJobLimit": "so many cpus are over the QOS's limit for one job: lower site.NAME.pilot.cpus",
    "QOSMaxNodePerJobLimit": "so many nodes are over the QOS's limit for one job: lower site.NAME.pilot.nodes",
    "QOSMaxMemoryPerJob": "so much memory is over the QOS's limit for one job: lower site.NAME.pilot.memory",
    "QOSMaxGRESPerJob": "so many gpus are over the QOS's limit for one job: lower site.NAME.pilot.gpus",
    "AssocMaxCpuPerJobLimit": "so many cpus are over the account's limit for one job: lower site.NAME.pilot.cpus",
    "AssocMaxNodePerJobLimit": "so many nodes are over the account's limit for one job: lower site.NAME.pilot.nodes",
}
"""Reasons with which a job waits for ever -> what it means and what mends it (SLURM: job_reason_codes).

To be believed when it is still said minutes later: while nodes come back after a restart, every waiting job is told PartitionConfig.
"""

_THEIRS = frozenset(("PartitionDown", "PartitionInactive", "JobHeldUser", "JobHeldAdmin", "DependencyNeverSatisfied"))
"""Those that no change of the configuration mends."""

NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)

_SQUEUE_FILTERS = ("SQUEUE_ACCOUNT", "SQUEUE_LICENSES", "SQUEUE_NAMES", "SQUEUE_PARTITION", "SQUEUE_QOS", "SQUEUE_STATES", "SQUEUE_USERS")
_SACCT_FIELDS = "JobIDRaw,JobName,State,ExitCode,Elapsed,AllocCPUS"


def squeue_argv(user: str | None = None) -> list[str]:
    """All jobs of ours, in whatever partition and state. ``user``: for squeue before 20.11, which has no ``--me``.

    The person's own SQUEUE_PARTITION and the like would make jobs look gone.
    """
    unset = [word for name in _SQUEUE_FILTERS for word in ("-u", name)]
    whose = ["--me"] if user is None else ["-u", user]
    return ["env", *unset, "squeue", *whose, "-a", "-h", "-t", "all", "-o", "%i|%T|%r|%j"]


def sacct_argv(jobs: Iterable[str]) -> list[str]:
    """These jobs in the accounting: those of live pilots that the last listing did not have. At most a few hundred ids."""
    return ["sacct", "-nXP", "-j", ",".join(jobs), "-o", _SACCT_FIELDS]


_JOB = re.compile(r"[0-9]+\Z")


def parse_squeue(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> what squeue lists. A pilot that is not there is absent now: waiting, running, or ended long ago it is not."""
    if broken := failed("squeue", code, out, err):
        return broken
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for line in out.splitlines():
        job, state, reason, name = [*line.split("|", 3), "", "", ""][:4]
        match = pattern.match(name)
        if match is None or not _JOB.match(job):
            continue  # another job of the same person; its name may hold anything
        word = SLURM.get(state, "unknown")
        reason = reason if reason != "None" else ""
        exit_ = 0 if state == "COMPLETED" else None
        if word == "ended":
            reason = state if not reason else f"{state}: {reason}"
        elif word == "unknown" or state not in ("PENDING", "RUNNING"):
            reason = reason or state
        bare = reason.removesuffix(")").removeprefix("(")
        never = NEVER.get(bare, "") if word == "pending" else ""
        found.setdefault(match[1], []).append(Known(word, reason, exit_, job, (), never, bool(never) and bare not in _THEIRS))
    return chosen(found)


def parse_sacct(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> how its job ended, for those that accounting knows to have ended. Not being there means nothing."""
    if broken := failed("sacct", code, out, err):
        return broken
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for line in out.splitlines():
        parts = line.split("|")
        if len(parts) < 4 or not _JOB.match(parts[0]):
            continue
        match = pattern.match(parts[1])
        state = parts[2].split(" ")[0].rstrip("+")  # "CANCELLED by 1001"
        if match is None or SLURM.get(state) != "ended":
            continue
        elapsed, cpus = (seconds(parts[4]), parts[5]) if len(parts) > 5 else (None, "")
        used = elapsed * int(cpus) if elapsed is not None and cpus.isdigit() else None
        found.setdefault(match[1], []).append(Known("ended", parts[2], _exit(state, parts[3]), parts[0], core_seconds=used))
    return chosen(found)


def _exit(state: str, text: str) -> int | None:
    """``7:0`` is exit 7, ``0:9`` died of signal 9; a job that somebody else ended has no exit code worth the name."""
    match = re.match(r"([0-9]+):([0-9]+)\Z", text)
    if match is None or (state != "COMPLETED" and match[0] == "0:0"):
        return None
    return 128 + int(match[2]) if int(match[2]) else int(match[1])


class Slurm(ByParsl):
    """SLURM from 18 on: Parsl writes the submit script, icp asks for the jobs itself."""

    name = "slurm"

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:  # noqa: ARG002
        return [squeue_argv()] + ([sacct_argv(left[:ASKED_AT_ONCE])] if left and accounting is not False else [])

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        if not answers:
            return Unknown("squeue was not asked")
        listed = parse_squeue(*answers[0], ledger)
        accounted: dict[str, Known] | Unknown | None = None
        if len(answers) > 1 and not NO_ACCOUNTING.search(answers[1][2]):
            accounted = parse_sacct(*answers[1], ledger)
        return combine(listed, accounted, list(left))
