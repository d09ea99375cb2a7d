"""PBS Professional, OpenPBS and Torque: one question for all pilots, and one pure parser of ``qstat -f`` (hides their letters and their lies).

- Plain ``qstat`` cuts names; ``qstat -f`` has them whole. Only jobs of this person are asked for where ``qselect`` can tell them.
- A job that ended meanwhile makes the whole call exit 153 (unknown) or 35 (finished); the others are told all the same, and count.
- Asked for several jobs, ``qstat`` connects to the server for each (40 seconds for 300, and no privileged ports are left): ``-E`` asks once, and
  leaves out what it does not know. Without it (before 18.1; Torque) what ended is asked for job by job, for one unknown id spoils the code of all.
- Torque keeps ended jobs in its listing for a while. Torque's commands over SLURM tell no exit status, whatever happened.
- A server that keeps no history says so of every job it is asked about, and exits 0.
- ``Exit_status`` below 0: the server or the node ended it, which is no exit code; from 256 on: ended by signal (less 256).
- A limit that is reached (``would exceed``, ``limit reached``) passes; only ``Can Never Run`` does not, and nodes that are down do not make it so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.backends.batch.by_parsl import ByParsl
from icp.backends.batch.listing import ASKED_AT_ONCE, chosen, combine, failed, said, seconds, shown
from icp.model.batch import Known, name_pattern

__all__ = ["PBS", "Pbs", "Torque", "parse_full", "parse_left"]

PBS: Mapping[str, str] = {
    "B": "running",  # an array with jobs that run
    "C": "ended",  # Torque
    "E": "running",  # exiting: its processes may still be there
    "F": "ended",
    "H": "pending",
    "M": "unknown",  # moved to another server
    "Q": "pending",
    "R": "running",
    "S": "running",  # suspended
    "T": "pending",  # on its way to a queue
    "U": "running",  # suspended while somebody uses the keyboard
    "W": "pending",  # its time has not come
    "X": "ended",  # part of an array
}
"""job_state -> our word (PBS: qstat(1B); Torque: qstat(1B))."""

_NEEDED = r"""/^[^ \t]/ {keep = 1}
/^    [A-Za-z]/ {keep = /^    (Job_Name|job_state|comment|Hold_Types|Exit_status|stime|(resources_used|Resource_List)\.(walltime|ncpus)) = /}
keep"""
"""What is read of PBS's ``qstat -f``: of all that is said, the person's other jobs too, it is a tenth. Torque's commands over SLURM indent otherwise."""
_BRIEF = (
    'ids=$(qselect -u "$(id -un)") || exit\n[ -n "$ids" ] || exit 0\n'
    "all=$(qstat -E -f $ids 2>/dev/null)\ncode=$?\n[ $code = 0 ] || { all=$(qstat -f $ids); code=$?; }\n"
    "printf '%s\\n' \"$all\" | awk \"$0\" || exit\nexit $code"
)
_LISTING = """if command -v qselect >/dev/null 2>&1; then
  ids=$(qselect -u "$(id -un)") || exit
  [ -z "$ids" ] || exec qstat -f $ids
else exec qstat -f
fi"""
_EACH = 'for job; do qstat $option "$job" 2>&1; echo "icp: $? $job"; done'
_LEFT = f"option=$0; {_EACH}"
_BRIEF_LEFT = f'''option=-xf; {{ qstat -E -xf "$@" 2>&1; code=$?; if [ $code = 2 ]; then {_EACH}; else echo "icp: $code all"; fi; }} | awk "$0"'''
_MARK = re.compile(r"^icp: ([0-9]+) (\S+)$", re.MULTILINE)

_GONE = re.compile(r"[Uu]nknown Job Id|Job has finished|finished, use -x|Unknown Job")
_GONE_CODES = (35, 153)
NO_HISTORY = re.compile(r"^qstat: .*(?:maintain job history|-x.*(?:invalid|illegal)|unknown option)", re.IGNORECASE | re.MULTILINE)
_JOB = re.compile(r"[0-9]+(?:\[\])?(?:\.[A-Za-z0-9._-]+)?\Z")

# what the comment says, what mends it, and whether that is our configuration
_NEVER: tuple[tuple[str, str, bool], ...] = (
    (r"Can Never Run|can never run", "no node and no limit allows what it asks for: lower site.NAME.pilot.cpus, memory, gpus, nodes or walltime, "
     "or choose another partition", True),
    (r"too many failed attempts", "the site's nodes could not start it: see that site.NAME.root is there on the nodes, or ask the site", True),
    (r"queue not started|[Qq]ueue .*(?:not started|disabled)", "the queue is stopped: the site has to start it, or choose another partition", False),
)  # fmt: skip
# JOB_EXEC_* of PBS: its ``Exit_status``; Torque's ``exit_status`` has other numbers
_ENDED: Mapping[str, str] = {
    "-3": "its node could not start it", "-10": "its node does not know the user or the group", "-11": "it was requeued", "-13": "a password is wrong",
    "-14": "another of its nodes was lost", "-20": "its node was lost", "-21": "its node refused its directories", "-23": "it has no Kerberos ticket",
    "-24": "it used more cpus than it asked for", "-25": "it used more cpus than it asked for", "-26": "it used more vmem than it asked for",
    "-27": "it used more memory than it asked for", "-28": "its cpu time was over", "-29": "its walltime was over", "-30": "its nodes could not be joined",
}  # fmt: skip
_HELD = "it is held: `qrls {job}` there lets it go, if the hold is yours; otherwise ask the site"


def records(text: str) -> list[tuple[str, dict[str, str]]]:
    """(id, attributes) of each job of ``qstat -f``.

    Attributes are indented by four blanks, and a tab goes on with the line before; Torque's commands over SLURM indent by a tab.
    """
    indent = "    " if re.search(r"^    \w[\w.]* = ", text, re.MULTILINE) else "\t"
    entry = re.compile(rf"{indent}([A-Za-z][\w.]*) = (.*)$")
    found: list[tuple[str, dict[str, str]]] = []
    last = ""
    for line in text.splitlines():
        if start := re.match(r"Job Id:\s*(\S+)\s*$", line):
            found.append((start[1], {}))
            last = ""
        elif found and (attribute := entry.match(line)):
            last = attribute[1]
            found[-1][1][last] = attribute[2]
        elif found and last and line.startswith("\t"):
            found[-1][1][last] += line[1:]
    return found


def parse_full(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> what the listing holds."""
    if code in _GONE_CODES and err.strip() and all(_GONE.search(line) for line in err.splitlines() if line.strip()):
        code = 0  # what ended between the two commands is all that is missing
    if broken := failed("qstat", code, out, err):
        return broken
    return chosen(_ours(out, ledger))


def parse_left(code: int | None, out: str, err: str, ledger: str, asked: Mapping[str, str]) -> dict[str, Known] | Unknown | None:
    """Pilot -> how its job ended; one whose question failed is unknown. None: the site keeps no history. Not being there means nothing."""
    if broken := failed("qstat", code, out, err):
        return broken
    pilots = {job: pilot for pilot, job in asked.items()}
    found: dict[str, Known] = {}
    begin = 0
    for mark in _MARK.finditer(out):
        text, begin = out[begin : mark.start()], mark.end()
        several = _ours(text, ledger)
        if NO_HISTORY.search(text):
            return None
        if mark[1] == "0":
            found.update({pilot: one for pilot, one in chosen(several).items() if one.word == "ended"})
        elif int(mark[1]) in _GONE_CODES or _GONE.search(text):
            continue
        elif mark[2] == "all":
            return Unknown(f"qstat failed: {said(text) or 'exit ' + mark[1]}")
        elif mark[2] in pilots:
            found[pilots[mark[2]]] = Known("unknown", f"qstat failed: {said(text) or 'exit ' + mark[1]}")
    return found


def _ours(text: str, ledger: str) -> dict[str, list[Known]]:
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for job, row in records(text):
        match = pattern.match(row.get("Job_Name", ""))
        if match and _JOB.match(job):
            found.setdefault(match[1], []).append(_known(job, row))
    return found


def _known(job: str, row: Mapping[str, str]) -> Known:
    state = row.get("job_state", "")
    word = PBS.get(state, "unknown")
    reason = shown(row.get("comment", "").strip())
    if word == "ended":
        why = "" if "exceeded" in reason else _ENDED.get(row.get("Exit_status", ""), "it never began" if _never_began(row) else "")
        told = "; ".join(filter(None, (reason, why)))
        exit_ = _exit(row.get("Exit_status", row.get("exit_status", "")))
        return Known(word, told or state, exit_, job, core_seconds=_core_seconds(row))
    if word == "running":
        return Known(word, "" if state == "R" else state, None, job)
    never, ours = "", False
    if word == "pending":
        never, ours = next(((hint, ours) for pattern, hint, ours in _NEVER if re.search(pattern, reason)), ("", False))
        if state == "H":
            never = never or _HELD
            reason = f"held: {reason}" if reason else f"held ({row.get('Hold_Types', '?')})"
    return Known(word, reason or ("" if state == "Q" else state), None, job, (), never.format(job=job), ours)


def _exit(text: str) -> int | None:
    """As a shell gives it; below 0 it is PBS's own word, and no exit code."""
    if not re.match(r"-?[0-9]+\Z", text):
        return None
    number = int(text)
    if number < 0:
        return None
    return 128 + number - 256 if number >= 256 else number


def _between(begin: str, end: str) -> float | None:
    """Torque's commands over SLURM tell no use; they call a job's start mtime, and its end ctime. A server's ctime is never after its mtime."""
    try:
        first, last = (datetime.strptime(one, "%a %b %d %H:%M:%S %Y") for one in (begin, end))  # noqa: DTZ007  two times of one clock
    except ValueError:
        return None
    return (last - first).total_seconds() if last > first else None


def _never_began(row: Mapping[str, str]) -> bool:
    """Deleted while it waited, as PBS keeps it."""
    return row.get("job_state") == "F" and not row.keys() & {"stime", "Exit_status", "resources_used.walltime"}


def _core_seconds(row: Mapping[str, str]) -> float | None:
    if _never_began(row):
        return 0.0
    wall = seconds(row.get("resources_used.walltime", "")) if "resources_used.walltime" in row else _between(row.get("mtime", ""), row.get("ctime", ""))
    cpus = row.get("resources_used.ncpus") or row.get("Resource_List.ncpus") or row.get("total_execution_slots") or ""
    return wall * int(cpus) if wall is not None and cpus.isdigit() else None


class Pbs(ByParsl):
    """PBS Professional from 13 on, and OpenPBS."""

    name = "pbs"
    listing: tuple[str, ...] = (_BRIEF, _NEEDED)
    ended: tuple[str, ...] = (_BRIEF_LEFT, _NEEDED)
    """... followed by the jobs."""

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:  # noqa: ARG002
        asked = [["/bin/sh", "-c", *self.listing]]
        if left and accounting is not False:
            asked.append(["/bin/sh", "-c", *self.ended, *left[:ASKED_AT_ONCE]])
        return asked

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        if not answers:
            return Unknown("qstat was not asked")
        accounted = parse_left(*answers[1], ledger, left) if len(answers) > 1 else None
        return combine(parse_full(*answers[0], ledger), accounted, list(left))


class Torque(Pbs):
    """Torque, and its commands over SLURM: ended jobs are asked for like the others."""

    name = "torque"
    listing = (_LISTING,)
    ended = (_LEFT, "-f")

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        if answers and answers[0][0] == _GONE_CODES[1] and not answers[0][1].strip() and not answers[0][2].strip():
            # over SLURM, a listing of no jobs exits so, without a word; what fails there says why
            answers = [(0, "", ""), *answers[1:]]
        return super().states(ledger, answers, left)
