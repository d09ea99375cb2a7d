"""What listings of all batch systems have in common: failed or cut off they tell nothing, and of several jobs of a pilot one counts (hides how)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from icp.backends.base import Unknown
from icp.model.batch import Known

__all__ = ["ASKED_AT_ONCE", "best", "chosen", "combine", "failed", "said", "seconds"]

ASKED_AT_ONCE = 300
"""Jobs that accounting is asked for at once."""

_ORDER = {"running": 0, "pending": 1, "unknown": 2, "ended": 3}


def said(text: str) -> str:
    """The last line of what a command said, harmless to show."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shown(lines[-1]) if lines else ""


def shown(text: str) -> str:
    """One line, harmless to show."""
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


def failed(program: str, code: int | None, out: str, err: str, fine: tuple[int, ...] = (0,)) -> Unknown | None:
    """Unknown where an answer tells nothing: the command failed, did not end in time, or its output breaks off."""
    if code is None:
        return Unknown(f"{program} did not answer in time")
    if code not in fine:
        return Unknown(f"{program} failed: {said(err) or said(out) or f'exit {code}'}")
    if out and not out.endswith("\n"):
        return Unknown(f"{program}'s answer is cut off")
    return None


def best(several: list[Known]) -> Known:
    """Of several jobs of one pilot the one that lives counts; of those that ended, the last."""
    several.sort(key=lambda one: (_ORDER[one.word], -_number(one.job) if one.word == "ended" else _number(one.job)))
    first = several[0]
    others = tuple(one.job for one in several[1:] if one.word in ("pending", "running"))
    return replace(first, others=others)


def _number(job: str) -> int:
    match = re.match(r"[0-9]+", job)
    return int(match[0]) if match else 0


def chosen(found: Mapping[str, list[Known]]) -> dict[str, Known]:
    """pilot -> the job of it that counts."""
    return {pilot: best(several) for pilot, several in found.items()}


def combine(
    listed: dict[str, Known] | Unknown, accounted: dict[str, Known] | Unknown | None, asked: Sequence[str] = ()
) -> dict[str, Known] | Unknown:
    """Both answers as one. A pilot that is in neither is absent from the result: gone, if two ticks in a row say so.

    ``accounted``: None where there is no accounting. ``asked``: the pilots that it was asked for; where it failed they are ``unknown``.
    What the listing shows alive counts more than what accounting says has ended.
    """
    if isinstance(listed, Unknown):
        return listed
    found = dict(listed)
    if isinstance(accounted, Unknown):
        for pilot in asked:
            found.setdefault(pilot, Known("unknown", accounted.why))
    elif accounted is not None:
        for pilot, known in accounted.items():
            if pilot not in found or (found[pilot].word == "ended" and found[pilot].job == known.job):
                found[pilot] = known
    return found


def seconds(text: str) -> float | None:
    """``[D-]HH:MM:SS``, ``MM:SS``, or a number with or without ``s``."""
    match = re.match(r"(?:(?:([0-9]+)-)?([0-9]+):)?([0-9]+):([0-9.]+)\Z", text)
    try:
        if match:
            return int(match[1] or 0) * 86400 + int(match[2] or 0) * 3600 + int(match[3]) * 60 + float(match[4])
        return float(text.removesuffix("s"))
    except ValueError:
        return None
