"""HTCondor: one question for all pilots, and pure parsers of its ads (hides its numbers and its lies).

- Pilots carry their name as the attribute IcpPilot; the queue is asked for it, never for ids.
- What left the queue is in the history of the access point; it is read from its end, as far as is reasonable.
- ``condor_q`` with nothing to show prints nothing, and exits 0.
- A held job waits for ever. A removed one has no exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.backends.batch.by_parsl import ByParsl
from icp.backends.batch.listing import ASKED_AT_ONCE, chosen, combine, failed, said, shown
from icp.model.batch import Known, name_pattern
from icp.pilot.live import ATTRIBUTE

__all__ = ["CONDOR", "Condor", "parse_history", "parse_queue"]

CONDOR: Mapping[int, str] = {
    0: "pending",  # unexpanded
    1: "pending",  # idle
    2: "running",
    3: "running",  # being removed: its starter may still be ending its processes
    4: "ended",  # completed
    5: "pending",  # held
    6: "running",  # transferring output
    7: "running",  # suspended
}
"""JobStatus in the queue -> our word."""

_QUEUE = ("ClusterId", "ProcId", "JobStatus", "IcpPilot", "HoldReason", "HoldReasonCode", "LastRejMatchReason", "NumJobStarts", ATTRIBUTE)
_HISTORY = (
    "ClusterId", "ProcId", "JobStatus", "IcpPilot", "ExitCode", "ExitBySignal", "ExitSignal", "RemoveReason", "HoldReason", "LastHoldReason",
    "RemoteWallClockTime", "CumulativeSlotTime", "CpusProvisioned", "RequestCpus",
    "NumJobStarts",
)  # fmt: skip
_SCAN = 50_000
"""Records of the history that are read at the most: it may be without end, and what is looked for left it a moment ago."""

HOLDS: Mapping[int, str] = {
    1: "you hold it: `condor_release {job}` there lets it go",
    12: "what it wrote could not be brought back: see that the spool at the site can be written, then cancel it",
    13: "the spool could not be read there: see that site.NAME.root exists and is shared with the execution points",
    15: "it was submitted on hold: `condor_release {job}` there lets it go",
    34: "it used more memory than it asked for: raise site.NAME.pilot.memory",
    46: "it ran longer than it may: lower site.NAME.pilot.walltime",
    47: "it ran longer than it may: lower site.NAME.pilot.walltime",
}
"""HoldReasonCode -> what mends it."""
_BY_HAND, _SPOOLING = (1, 15), 16  # held by somebody; its input is on the way, which passes
_HELD = "it is held and waits for ever: mend what its reason says, then `condor_release {job}` there, or cancel it"


def parse_queue(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> what the queue holds."""
    ads = _ads("condor_q", code, out, err)
    if isinstance(ads, Unknown):
        return ads
    found: dict[str, list[Known]] = {}
    for pilot, job, ad in _ours(ads, ledger):
        status = ad.get("JobStatus")
        word = CONDOR.get(status, "unknown") if isinstance(status, int) else "unknown"
        reason = never = ""
        ours = False
        if status == 5:
            reason = f"held: {shown(str(ad.get('HoldReason') or 'without a reason'))}"
            number = ad.get("HoldReasonCode") or 0
            never = "" if number == _SPOOLING else HOLDS.get(number, _HELD).format(job=job)
            ours = bool(never) and number not in _BY_HAND
        elif status == 3:
            reason = "being removed"
        elif status == 1:
            put_off = "it was put off its machine, and begins again" if _starts(ad) else ""
            reason = "; ".join(filter(None, (put_off, shown(str(ad.get("LastRejMatchReason") or "")).strip())))
        elif status == 2 and _starts(ad) > 1:
            reason = _BEGUN.format(_starts(ad))
        elif status in (6, 7):
            reason = "transferring output" if status == 6 else "suspended"
        elif word == "unknown":
            reason = f"JobStatus {status}"
        tells = str(ad.get(ATTRIBUTE) or "") if word == "running" else ""
        found.setdefault(pilot, []).append(Known(word, reason, None, job, (), never, ours, tells=tells))
    return chosen(found)


def parse_history(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> how its job ended, for those that the history has. Not being there means nothing."""
    ads = _ads("condor_history", code, out, err)
    if isinstance(ads, Unknown):
        return ads
    found: dict[str, list[Known]] = {}
    for pilot, job, ad in _ours(ads, ledger):
        status = ad.get("JobStatus")
        if status not in (3, 4):
            continue
        exit_ = None
        reason = "completed"
        if status == 4 and ad.get("ExitBySignal") is True and isinstance(ad.get("ExitSignal"), int):
            exit_ = 128 + ad["ExitSignal"]
        elif status == 4 and isinstance(ad.get("ExitCode"), int):
            exit_ = ad["ExitCode"]
        if status == 3:
            why = ad.get("HoldReason") or ad.get("RemoveReason") or ad.get("LastHoldReason")
            reason = f"removed: {shown(str(why))}" if why else "removed"
        if _starts(ad) > 1:
            reason += f"; {_BEGUN.format(_starts(ad))}"
        found.setdefault(pilot, []).append(Known("ended", reason, exit_, job, core_seconds=_core_seconds(ad)))
    return chosen(found)


_BEGUN = "begun {} times: what it did before it was put off its machine is done again"


def _starts(ad: Mapping[str, Any]) -> int:
    starts = ad.get("NumJobStarts")
    return starts if isinstance(starts, int) else 0


def _core_seconds(ad: Mapping[str, Any]) -> float | None:
    wall = ad.get("RemoteWallClockTime")
    cpus = ad.get("CpusProvisioned", ad.get("RequestCpus"))
    if isinstance(wall, (int, float)) and isinstance(cpus, int):
        return float(wall) * cpus
    slot = ad.get("CumulativeSlotTime")  # weighted by what the pool thinks a slot is worth, cpus by default
    return float(slot) if isinstance(slot, (int, float)) else None


def _ads(program: str, code: int | None, out: str, err: str) -> list[Any] | Unknown:
    if broken := failed(program, code, out, err):
        return broken
    if "Failed to fetch" in err:
        return Unknown(f"{program} failed: {said(err)}")  # one schedd of several, or a release that exits 0 all the same
    if not out.strip():
        return []
    try:
        ads = json.loads(out)
    except (ValueError, RecursionError):
        return Unknown(f"{program}'s answer is cut off or cannot be read")
    return ads if isinstance(ads, list) else Unknown(f"{program}'s answer cannot be read")


def _ours(ads: Sequence[Any], ledger: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(pilot, job, ad) of those with a name of this ledger's."""
    pattern = name_pattern(ledger)
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    for ad in ads:
        if not isinstance(ad, dict) or not isinstance(ad.get("IcpPilot"), str):
            continue
        match = pattern.match(ad["IcpPilot"])
        if match and isinstance(ad.get("ClusterId"), int) and isinstance(ad.get("ProcId"), int):
            rows.append((match[1], f"{ad['ClusterId']}.{ad['ProcId']}", ad))
    return rows


class Condor(ByParsl):
    """HTCondor from 9 on, asked at the access point."""

    name = "condor"

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:
        ours = f'regexp("^icp-{ledger[:8]}-", IcpPilot)'
        asked = [["condor_q", "-constraint", ours, "-json", "-attributes", ",".join(_QUEUE)]]
        if left and accounting is not False:
            some = left[:ASKED_AT_ONCE]
            asked.append(["condor_history", *some, "-limit", str(len(some)), "-scanlimit", str(_SCAN), "-json", "-attributes", ",".join(_HISTORY)])
        return asked

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        if not answers:
            return Unknown("condor_q was not asked")
        accounted = parse_history(*answers[1], ledger) if len(answers) > 1 else None
        return combine(parse_queue(*answers[0], ledger), accounted, list(left))
