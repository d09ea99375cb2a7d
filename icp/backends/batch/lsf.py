"""LSF: one question for all pilots, and a pure parser (hides its words).

- ``bjobs -a`` lists what waits, runs, and ended within CLEAN_PERIOD, an hour by default. There is no second question.
- With nothing to list it says so on stderr, and exits 0 or 255.
- Written from the manual (LSF 10.1); no LSF was there to record from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.backends.batch.by_parsl import ByParsl
from icp.backends.batch.listing import chosen, failed, seconds, shown
from icp.model.batch import Known, name_pattern

__all__ = ["LSF", "Lsf", "parse_bjobs"]

LSF: Mapping[str, str] = {
    "PEND": "pending",
    "PROV": "pending",  # its machine is being made
    "PSUSP": "pending",  # held while it waited
    "WAIT": "pending",
    "RUN": "running",
    "USUSP": "running",  # suspended by a person
    "SSUSP": "running",  # suspended by LSF
    "DONE": "ended",
    "EXIT": "ended",
    "UNKWN": "unknown",  # its host does not answer
    "ZOMBI": "unknown",  # killed while its host did not answer
}
"""STAT of ``bjobs`` -> our word."""

_FIELDS = "jobid stat job_name exit_code slots run_time exit_reason pend_reason delimiter='|'"
_NONE = re.compile(r"No (?:unfinished |matching |finished )?job found", re.IGNORECASE)
_HELD = "it is held: `bresume {job}` there lets it go"
# what it waits for, what mends it, and whether that is our configuration
_NEVER: tuple[tuple[str, str, bool], ...] = (
    (r"requirements? (?:for|not satisfied).*\b(?:all|any) hosts|not enough (?:slots|hosts) .*ever|cannot be satisfied",
     "no host has what it asks for: lower site.NAME.pilot.cpus or memory, or correct its constraint", True),
    (r"job was suspended by (?:the )?user|suspended by .*while pending|owner.*suspend|[Uu]ser suspended",
     _HELD, False),
    (r"queue.*(?:closed|inactivated)|[Tt]he queue has been inactivated", "the queue is closed: the site has to open it, or choose another partition", False),
)  # fmt: skip


def parse_bjobs(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> what bjobs lists."""
    if code in (0, 255) and not out.strip() and _NONE.search(err):
        return {}
    if broken := failed("bjobs", code, out, err):
        return broken
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for line in out.splitlines():
        job, state, name, exit_text, slots, run, why, waits = [*(one.strip() for one in line.split("|", 7)), *[""] * 8][:8]
        match = pattern.match(name)
        if match is None or not re.match(r"[0-9]+\Z", job):
            continue
        word = LSF.get(state, "unknown")
        reason = never = ""
        ours = False
        exit_ = used = None
        if word == "ended":
            reason = state if why in ("", "-") else f"{state}: {shown(why)}"
            exit_ = 0 if state == "DONE" else int(exit_text) if exit_text.isdigit() and exit_text != "0" else None
            wall = seconds(run.split(" ")[0])
            used = wall * int(slots) if wall is not None and slots.isdigit() else None
        elif word == "pending":
            reason = shown(waits) if waits not in ("", "-") else "" if state == "PEND" else state
            never, ours = next(((hint, ours) for text, hint, ours in _NEVER if re.search(text, reason)), ("", False))
            if state == "PSUSP":
                never = never or _HELD
        elif state != "RUN":
            reason = state
        found.setdefault(match[1], []).append(Known(word, reason, exit_, job, (), never.format(job=job), ours, used))
    return chosen(found)


class Lsf(ByParsl):
    """IBM Spectrum LSF from 10.1 on."""

    name = "lsf"

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:  # noqa: ARG002
        return [["bjobs", "-a", "-noheader", "-o", _FIELDS]]

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:  # noqa: ARG002
        return parse_bjobs(*answers[0], ledger) if answers else Unknown("bjobs was not asked")
