"""What a host is: looked at in one session, by one script in POSIX sh (hides the commands that are asked, and noise around their answers)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from icp.backends.base import Result, Transport, Unknown
from icp.backends.pilot_script import PYTHONS
from icp.backends.survey.batch import LOOKS, Batch, Part
from icp.errors import BadInput

__all__ = ["Disk", "Survey", "look", "read", "script"]

TIMEOUT = 150.0
EACH = 20
"""Seconds that one command has, where the host has `timeout`."""
PLACES = ("SCRATCH", "WORK", "PSCRATCH", "CSCRATCH", "PROJECT", "DATA", "STORE")
"""Variables in which centres say where large files belong."""
_VERSION = "import sys; sys.version_info >= (3, 6) and print(sys.executable, '.'.join(map(str, sys.version_info[:3])))"


@dataclass(frozen=True, slots=True)
class Disk:
    """A directory in which a spool might be."""

    name: str
    """``home``, ``root``, or the variable that names it."""
    path: str
    kind: str
    """Of the file system; "" where nobody told."""
    free: int | None
    """Bytes."""
    writable: bool
    why: str = ""
    """What stood in the way of a small file."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A host as it was seen."""

    user: str
    host: str
    home: str
    cpus: int
    memory: int | None
    """Bytes."""
    gpus: int
    python: str | None
    """The first one that is new enough; None: there is none."""
    python_version: str | None
    path: str | None
    """The PATH of a login shell, where only that leads to the batch system or to Python."""
    path_for: tuple[str, ...]
    """What only that leads to."""
    disks: tuple[Disk, ...]
    quotas: tuple[str, ...]
    scheduler: str
    batch: Batch = field(default_factory=Batch)


def script(scheduler: str | None, root: str | None) -> str:
    """The text that looks; ``scheduler``: only this one is asked (``none``: none); ``root``: a place that is looked at too."""
    looks = [one for one in LOOKS if scheduler in (None, one.scheduler)]
    needed = " ".join(one.command for one in looks)
    pythons = " ".join(f'"{one}"' if "$" in one else one for one in PYTHONS)
    variables = " ".join(PLACES)
    lines = [
        "LC_ALL=C; export LC_ALL",
        f"t=; if command -v timeout >/dev/null 2>&1; then t='timeout {EACH}'; fi",
        "say() { printf '\\n@@ %s\\n' \"$1\"; }",
        "run() { say \"$1\"; shift; $t \"$@\" </dev/null 2>&1; printf '\\n@@rc %s\\n' \"$?\"; }",
        'have() { command -v "$1" >/dev/null 2>&1; }',
        'say id; id -un; uname -n; printf "%s\\n" "$HOME"',
        "say cpus; getconf _NPROCESSORS_ONLN",
        "say memory; sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo 2>/dev/null",
        "have nvidia-smi && run gpus nvidia-smi -L",
        # what a login shell knows more: modules' PATH, names of file systems. What it prints besides is noise
        f"l=$($t bash -lc 'for v in PATH {variables}; do eval \"printf \\\"\\\\n@V %s %s\\\\n\\\" $v \\\"\\$$v\\\"\"; done' "
        "</dev/null 2>/dev/null | sed -n 's/^@V //p')",
        "p=$(printf '%s\\n' \"$l\" | sed -n 's/^PATH //p' | tail -n 1)",
        f'missed=; for c in {needed}; do if ! have $c && [ -n "$p" ] && (PATH=$p; have $c); then missed="$missed $c"; fi; done',
        f'py() {{ for c in {pythons}; do v=$("$c" -I -S -c {shlex.quote(_VERSION)} 2>/dev/null </dev/null); [ -n "$v" ] && break; done; }}',
        "py",
        'if [ -z "$v" ] && [ -n "$p" ]; then own=$PATH; PATH=$p; py; if [ -n "$v" ]; then missed="$missed python3"; fi; PATH=$own; fi',
        'say python; printf "%s\\n" "$v"',
        'if [ -n "$missed" ]; then PATH=$p; export PATH; fi',
        'say path; printf "%s\\n" "$p" "$missed"',
        # a small file: quotas are found by filling it, not by asking
        'disk() { say "disk $1"; printf "%s\\n" "$2"; d=$2; while [ ! -d "$d" ] && [ "$d" != / ] && [ "$d" != . ]; do d=$(dirname "$d"); done; '
        'f="$d/.icp-$$"; if ( head -c 65536 /dev/zero >"$f" ) 2>&1; then echo "@@ok"; else echo "@@no"; fi; rm -f "$f" 2>/dev/null; '
        '$t df -Pk "$d" 2>/dev/null | tail -n 1; $t stat -f -c %T "$d" 2>/dev/null; }',
        'disk home "$HOME"',
        *([f"disk root {_place(root)}"] if root is not None else []),
        f"for n in {variables}; do w=$(printf '%s\\n' \"$l\" | sed -n \"s/^$n //p\" | tail -n 1); [ -d \"$w\" ] && disk \"$n\" \"$w\"; done",
        "have quota && run quota quota -w -p",
    ]
    for one in looks:
        lines.append(f"if have {one.command}; then say 'batch {one.scheduler}'; {one.script}\nfi")
    lines.append("say end")
    return "\n".join(lines) + "\n"


def _place(root: str) -> str:
    """A place as one shell word, in which a leading ``~`` or ``$HOME`` means the home there."""
    for begin in ("~/", "$HOME/", "${HOME}/"):
        if root.startswith(begin):
            return '"$HOME"/' + shlex.quote(root[len(begin) :])
    if re.match(r"\$\{?[A-Za-z_]", root):
        return f'"{root}"'
    return shlex.quote(root)


def look(transport: Transport, *, scheduler: str | None = None, root: str | None = None) -> Survey | Unknown:
    """Look at a host; Unknown where nobody answered, BadInput where it answers what cannot be understood."""
    outcome = transport.run(["/bin/sh", "-c", script(scheduler, root)], b"", TIMEOUT)
    if isinstance(outcome, Unknown):
        return outcome
    return read(outcome, scheduler)


def read(outcome: Result, scheduler: str | None = None) -> Survey:
    """The survey in what the script printed."""
    parts = _parts(outcome.out.decode("utf-8", "replace"))
    about = parts.get("id", Part("")).lines
    if len(about) < 3 or "end" not in parts:
        said = outcome.err.decode("utf-8", "replace").strip().splitlines()
        raise BadInput(f"the host could not be looked at: {said[-1][:200] if said else 'its shell printed no answer'}", "`ssh HOST /bin/sh -c true` must work")
    found = [one for one in LOOKS if f"batch {one.scheduler}" in parts]
    chosen = found[0] if found else None
    python = (parts.get("python", Part("")).first or "").rsplit(" ", 1)
    path = [*parts.get("path", Part("")).text.splitlines(), "", ""]
    missed = tuple(path[1].split())
    return Survey(
        user=about[0], host=about[1], home=about[2],
        cpus=_number(parts, "cpus") or 1,
        memory=(_number(parts, "memory") or 0) * 1024 or None,
        gpus=sum(line.startswith("GPU ") for line in parts.get("gpus", Part("")).lines),
        python=python[0] if len(python) == 2 else None,
        python_version=python[1] if len(python) == 2 else None,
        path=path[0] if missed else None, path_for=missed,
        disks=tuple(_disk(name[5:], part) for name, part in parts.items() if name.startswith("disk ")),
        quotas=tuple(_quotas(parts.get("quota", Part("")))),
        scheduler=chosen.scheduler if chosen else scheduler or "none",
        batch=chosen.read(parts) if chosen else Batch(),
    )  # fmt: skip


def _parts(text: str) -> Mapping[str, Part]:
    found: dict[str, Part] = {}
    name, lines, code = "", list[str](), None

    def close() -> None:
        if name:
            found[name] = Part("\n".join(lines), code)

    for line in text.splitlines():
        if line.startswith("@@ "):
            close()
            name, lines, code = line[3:].strip(), [], None
        elif line.startswith("@@rc "):
            code = int(line[5:]) if line[5:].isdigit() else None
        else:
            lines.append(line)
    close()
    return found


def _number(parts: Mapping[str, Part], name: str) -> int | None:
    first = parts.get(name, Part("")).first
    return int(first) if first and first.isdigit() else None


def _disk(name: str, part: Part) -> Disk:
    lines = part.lines
    path = lines[0] if lines else ""
    mark = next((i for i, line in enumerate(lines) if line in ("@@ok", "@@no")), len(lines))
    why = re.sub(r"^.*?: (?=[A-Z])", "", lines[mark - 1]) if mark > 1 else ""
    free, kind = None, ""
    for line in lines[mark + 1 :]:
        words = line.split()
        if len(words) >= 6 and words[3].isdigit():
            free = int(words[3]) * 1024
        elif len(words) == 1:
            kind = words[0]
    return Disk(name, path, kind, free, "@@ok" in lines, why)


def _quotas(part: Part) -> Sequence[str]:
    """``/home: 11.2 of 20.0 GB``, from ``quota -w -p``: file system, blocks of 1 KiB, soft, hard."""
    said = []
    for line in part.lines:
        words = line.split()
        if len(words) >= 4 and words[1].rstrip("*").isdigit():
            used, soft, hard = (int(word.rstrip("*")) if word.rstrip("*").isdigit() else 0 for word in words[1:4])
            if soft or hard:
                said.append(f"{words[0]}: {used * 1024 / 1e9:.1f} of {(soft or hard) * 1024 / 1e9:.1f} GB")
    return said
