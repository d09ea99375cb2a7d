"""Grid Engine: one question for all pilots with the reasons of those that wait, and pure parsers (hides its letters and its lies).

- ``qstat`` cuts names to ten characters; its XML has them whole. It lists what waits and runs; what ended is in the accounting alone.
- ``t``, transferring, is what every job is for a moment; Parsl's provider calls it failed. ``E`` waits for ever, until a person clears it.
- ``qacct -j ID`` reads the whole accounting file, each time: it is read once for all that left.
- A job whose files could not be opened has exit status 0; ``failed`` tells better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.backends.batch.by_parsl import ByParsl
from icp.backends.batch.listing import ASKED_AT_ONCE, chosen, combine, failed, seconds, shown
from icp.model.batch import Known, name_pattern

__all__ = ["GridEngine", "parse_qacct", "parse_qstat", "word_of"]

# the listing, and behind it why the first of those that wait do so. What they have to say matters less than the listing: its failure is none.
_LIST = """out=$(qstat -u "$(id -un)" -xml) || exit
printf '%s\\n' "$out"
ids=$(printf '%s\\n' "$out" | awk -F'[<>]' '
/<JB_job_number>/ {id = $3}
/<state>/ && $3 ~ /[wE]/ {print id}' | head -n 20)
[ -z "$ids" ] || qstat -j "$(echo $ids | tr ' ' ,)" 2>/dev/null | grep -E '^(job_number|error reason|scheduling info|  )' || :"""

# one reading of the accounting file; records of the jobs asked for, and what is needed of them
_ACCOUNT = """{ qacct -o "$(id -un)" -j || echo "failed to read: $?"; } 2>&1 | awk -v ids=" $0 " '
function tell() { if (index(ids, " " id " ")) printf "%s", text; id = ""; text = "" }
/^=====/ {tell(); text = "====\\n"; next}
/^failed to read/ {print; next}
/^error|[Nn]o such file|commlib/ {said = $0; next}
$1 == "jobnumber" {id = $2}
$1 ~ /^(jobname|jobnumber|slots|failed|exit_status|ru_wallclock)$/ {text = text $0 "\\n"}
END {tell(); if (said) print "said: " said; print "end"}'"""

NO_ACCOUNTING = re.compile(r"^said: .*/accounting: [Nn]o such file|^failed to read: 127$", re.MULTILINE)
_JOB = re.compile(r"[0-9]+\Z")
_END = "</job_info>"
_ENTITY = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

HELD = "it is held: `qrls {job}` there lets it go, if the hold is yours; otherwise ask the site"
ERROR = "it is in error state and waits for ever: mend what its reason says, then `qmod -cj {job}` there, or cancel it"


def word_of(state: str) -> str:
    """Our word for the letters that ``qstat`` prints (its man page, section Output Formats)."""
    letters = set(state)
    if not letters or letters - set("dEhrRsStTwqNzP"):
        return "unknown"
    if "z" in letters:
        return "ended"
    if letters & set("rtsST") or "d" in letters:
        return "running"  # being deleted, its processes may still be there
    return "pending" if letters & set("wqEhR") else "unknown"


def parse_qstat(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown:
    """Pilot -> what qstat lists."""
    if broken := failed("qstat", code, out, err):
        return broken
    end = out.rfind(_END) + len(_END)
    text, behind = out[:end], out[end:]
    if end < len(_END) or _ENTITY.search(text):
        return Unknown("qstat's answer is cut off")
    try:
        root = ET.fromstring(_TEXT.sub("?", text))  # noqa: S314  entities are refused above
    except ET.ParseError:
        return Unknown("qstat's answer cannot be read")
    reasons = _reasons(behind)
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for row in root.iter("job_list"):
        job, name, state = (str(row.findtext(key) or "") for key in ("JB_job_number", "JB_name", "state"))
        match = pattern.match(name)
        if match is None or not _JOB.match(job):
            continue
        word = word_of(state)
        reason = reasons.get(job, "")
        never, ours = "", False
        if word == "pending" and "E" in state:
            reason, never, ours = f"{state}: {reason}" if reason else state, ERROR.format(job=job), True
        elif word == "pending" and "h" in state:
            reason, never = state, HELD.format(job=job)
        elif word == "pending":
            never = _never(reason)
            ours = bool(never)
        elif state != "r":
            reason = state
        found.setdefault(match[1], []).append(Known(word, reason, None, job, (), never, ours))
    return chosen(found)


def _reasons(text: str) -> dict[str, str]:
    """job -> its first reason, from ``qstat -j``: an error before what the scheduler says."""
    errors: dict[str, str] = {}
    waits: dict[str, str] = {}
    job = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "job_number":
            job = value.strip()
        elif key.startswith("error reason"):
            errors.setdefault(job, shown(re.sub(r"^\s*\S+ \S+ \[[0-9:]+\]: ", "", value).strip()))
        elif key == "scheduling info" and "turned off" not in value:
            waits.setdefault(job, shown(value.strip()))
    return {**waits, **errors}


def _never(reason: str) -> str:
    if re.search(r"cannot run in PE .* because it only offers 0 slots", reason):
        return "the parallel environment has not so many slots for one job: lower site.NAME.pilot.cpus, or set site.NAME.pilot.options.pe"
    if re.search(r"has no permission|not a member of|not included in", reason):
        return "the queue is not open to this person or project: set site.NAME.pilot.partition or site.NAME.pilot.account"
    return ""


def parse_qacct(code: int | None, out: str, err: str, ledger: str) -> dict[str, Known] | Unknown | None:
    """Pilot -> how its job ended, for those that accounting knows. Not being there means nothing: it is written late.

    None: there is no file of it, as on a login node that does not see the master's, and everywhere until the first job has ended; or no qacct.
    """
    if broken := failed("qacct", code, out, err):
        return broken
    told = re.search(r"^failed to read: .*", out, re.MULTILINE)
    if told and NO_ACCOUNTING.search(out):
        return None
    if told:
        return Unknown(f"qacct failed: {shown((re.search(r'^said: (.*)', out, re.MULTILINE) or told)[0]).removeprefix('said: ')}")
    if not out.endswith("end\n"):
        return Unknown("qacct's answer is cut off")
    pattern = name_pattern(ledger)
    found: dict[str, list[Known]] = {}
    for record in out.split("====\n")[1:]:
        row = {key: value.strip() for key, _, value in (line.partition(" ") for line in record.splitlines())}
        match, job = pattern.match(row.get("jobname", "")), row.get("jobnumber", "")
        if match is None or not _JOB.match(job):
            continue
        number, _, why = row.get("failed", "0").partition(":")
        reason = f"failed {number.strip()}: {why.strip()}" if number.strip() not in ("0", "") else ""
        code_text = row.get("exit_status", "").split(" ")[0]
        exit_ = int(code_text) if code_text.isdigit() else None
        if number.strip() not in ("0", "100") and exit_ == 0:
            exit_ = None  # it never began, or was not seen to end: that is no success
        wall, slots = seconds(row.get("ru_wallclock", "")), row.get("slots", "")
        used = wall * int(slots) if wall is not None and slots.isdigit() else None
        found.setdefault(match[1], []).append(Known("ended", shown(reason), exit_, job, core_seconds=used))
    return chosen(found)


class GridEngine(ByParsl):
    """Sun, Son of, Open and Univa Grid Engine."""

    name = "sge"

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:  # noqa: ARG002
        asked = [["/bin/sh", "-c", _LIST]]
        if left and accounting is not False:
            asked.append(["/bin/sh", "-c", _ACCOUNT, " ".join(left[:ASKED_AT_ONCE])])
        return asked

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        if not answers:
            return Unknown("qstat was not asked")
        accounted = parse_qacct(*answers[1], ledger) if len(answers) > 1 else None
        return combine(parse_qstat(*answers[0], ledger), accounted, list(left))
