"""A person's jobs in the queue of an HTCondor pool, as scripts to run there and parsers of what they print (hides condor_q, _hold, _rm, _release).

Only a listing is believed. What holds, removes or releases jobs is a constraint that the schedd evaluates when it acts: a job that began to run, or
that its owner released or removed meanwhile, is not met.
"""

from __future__ import annotations

import io
import json
import posixpath
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icp.backends.base import Outcome, Unknown

__all__ = ["ABSENT", "Delivery", "Key", "deliver", "delivered", "fetch_argv", "fetched", "listing", "orders", "ours", "parse_listing"]

Key = tuple[int, int]
"""(cluster, proc)"""
ABSENT = (3, 4)
"""JobStatus of jobs that leave the queue: removed, completed."""
FETCH_LIMIT = 60_000
"""kB of inputs that are fetched at once."""
DELIVER_LIMIT = 40_000_000
"""Bytes of outputs in one session."""
TOO_LARGE = 75
_SPAN = 100
_MARK = "icp-listing"


def _prefix(ledger: str) -> str:
    return f"icp {ledger[:8]}:"


def ours(ad: Mapping[str, Any], ledger: str) -> bool:
    """Whether this ledger holds the job."""
    return ad.get("JobStatus") == 5 and str(ad.get("HoldReason") or "").startswith(_prefix(ledger))


def _constraint(keys: Iterable[Key]) -> list[str]:
    """ClassAd expressions that match these jobs, at most a hundred terms each."""
    clusters: dict[int, list[int]] = {}
    for cluster, proc in sorted(keys):
        clusters.setdefault(cluster, []).append(proc)
    terms = []
    for cluster, procs in clusters.items():
        begin = end = procs[0]
        for proc in [*procs[1:], -1]:
            if proc == end + 1:
                end = proc
                continue
            terms.append(f"(ClusterId == {cluster} && ProcId >= {begin} && ProcId <= {end})")
            begin = end = proc
    return [" || ".join(terms[at : at + _SPAN]) for at in range(0, len(terms), _SPAN)]


def orders(ledger: str, hold: Iterable[Key] = (), remove: Iterable[Key] = (), release: Iterable[Key] = ()) -> str:
    """sh that holds, removes and releases these jobs, each only where it is as we know it. What it prints does not matter."""
    held = f'JobStatus == 5 && regexp("^{_prefix(ledger)}", HoldReason)'
    reason = f"{_prefix(ledger)} it runs elsewhere and its outputs come back here (condor_release takes it back)"
    lines = []
    for keys, command, state in (
        (hold, f"condor_hold -reason {shlex.quote(reason)}", "JobStatus == 1 && IcpOverflow =?= True"), (remove, "condor_rm", held),
        (release, "condor_release", held),
    ):  # fmt: skip
        lines += [f"{command} -constraint {shlex.quote(f'{state} && ({which})')} >/dev/null 2>&1" for which in _constraint(keys)]
    return "\n".join(lines)


def listing(attributes: Sequence[str]) -> str:
    """sh that lists all jobs of ours that are marked. An old condor_q lists everybody's."""
    mine = 'IcpOverflow =?= True && Owner == \\"$(id -un)\\"'
    return f"echo {_MARK}; condor_q -json -constraint \"{mine}\" -attributes {','.join(attributes)}"


def parse_listing(outcome: Outcome) -> dict[Key, dict[str, Any]] | Unknown:
    """Job -> its ad. Unknown where the listing failed, or is not whole: then nothing is known of any job."""
    if isinstance(outcome, Unknown):
        return Unknown(outcome.why)
    said = outcome.err.decode("utf-8", "replace").strip().splitlines()
    if outcome.code != 0:
        return Unknown(f"condor_q failed (exit {outcome.code}): {said[-1][:200] if said else 'no word'}")
    head, mark, text = outcome.out.decode("utf-8", "replace").partition(_MARK + "\n")
    if not mark:
        return Unknown(f"no listing came back{': ' + head.strip()[:100] if head.strip() else ''}")
    try:
        ads = json.loads(text) if text.strip() else []
        return {(int(ad["ClusterId"]), int(ad["ProcId"])): ad for ad in ads if ad.get("JobStatus") not in ABSENT}
    except (ValueError, KeyError, TypeError):
        return Unknown("the answer of condor_q cannot be read")


def fetch_argv() -> list[str]:
    """Sends the files whose names come in, NUL between them, as a tar; exit TOO_LARGE where they are too much at once."""
    script = (
        't=$(mktemp) || exit 1; trap \'rm -f "$t"\' EXIT; cat >"$t"; cd /\n'
        'n=$(du -Lcsk --files0-from="$t" 2>/dev/null | tail -n 1 | cut -f 1)\n'
        f'[ "${{n:-0}}" -le {FETCH_LIMIT} ] || exit {TOO_LARGE}\n'
        'tar -chf - --null -T "$t"\n'
    )
    return ["/bin/sh", "-c", script]


def fetched(data: bytes, asked: Sequence[str]) -> dict[str, tuple[bytes, bool]]:
    """Path without its first slash -> (bytes, executable) of every file that was asked for or lies below one that was. Nothing else is taken."""
    allowed = [path.lstrip("/") for path in asked]
    found: dict[str, tuple[bytes, bool]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None and any(name == one or name.startswith(one + "/") for one in allowed) and ".." not in name.split("/"):
                    found[name] = (content.read(), bool(member.mode & 0o100))
    except tarfile.TarError:
        pass  # what is whole counts; what lacks is found to lack
    return found


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outputs of one job: (bytes, where they go at the pool)."""

    key: Key
    files: tuple[tuple[bytes, str], ...]


def deliver(ledger: str, deliveries: Sequence[Delivery]) -> tuple[list[str], bytes]:
    """(argv, stdin) of a session that puts outputs in place, of jobs that are still held by us: a line ``ok C.P`` for each that is all there."""
    buffer = io.BytesIO()
    lines = [
        "t=$(mktemp -d) || exit 1; trap 'rm -rf \"$t\"' EXIT",
        f"held=$(condor_q -constraint {shlex.quote('JobStatus == 5 && regexp(' + chr(34) + '^' + _prefix(ledger) + chr(34) + ', HoldReason)')} "
        "-af:j ClusterId) || exit 1",
        'tar -C "$t" -xf - || exit 1',
        'put() { d=$(dirname "$2"); mkdir -p "$d" && cp "$t/$1" "$d/.icp.$$.$1" && mv -f "$d/.icp.$$.$1" "$2"; }',
    ]
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        number = 0
        for one in deliveries:
            name = f"{one.key[0]}.{one.key[1]}"
            steps = []
            for data, path in one.files:
                info = tarfile.TarInfo(str(number))
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
                steps.append(f"put {number} {shlex.quote(path)}")
                number += 1
            lines.append(f"if printf '%s\\n' \"$held\" | grep -q '^{one.key[0]}\\.{one.key[1]} '; then {' && '.join([*steps, 'echo ok ' + name])}; fi")
        if not number:
            tar.addfile(tarfile.TarInfo("nothing"))
    return ["/bin/sh", "-c", "\n".join(lines)], buffer.getvalue()


def delivered(outcome: Outcome) -> set[Key]:
    """The jobs whose outputs are in place, whatever else happened."""
    found = set()
    for line in outcome.out.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "ok" and words[1].replace(".", "", 1).isdigit() and "." in words[1]:
            cluster, _, proc = words[1].partition(".")
            found.add((int(cluster), int(proc)))
    return found
