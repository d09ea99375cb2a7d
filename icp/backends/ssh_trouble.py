"""Why a host cannot be reached, in one sentence with what to do, and how long it is left alone (hides what ssh prints)."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BACKOFF", "Memory", "Standing", "Trouble", "classify", "refused_person"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands between us and a host; ``kind`` is a key of BACKOFF."""

    kind: str
    sentence: str
    hint: str

    @property
    def text(self) -> str:
        return f"{self.sentence}; {self.hint}"


_PATIENT = (60.0, 300.0, 900.0, 3600.0)
_SHORT = (5.0, 15.0, 60.0, 300.0)

BACKOFF: Mapping[str, Sequence[float]] = {
    # centres lock accounts that keep knocking: what only a person can mend is tried rarely
    "auth": _PATIENT,
    "login": _PATIENT,
    "person": (0.0,),  # nobody knocks there any more: see Memory.asks
    "hostkey": _PATIENT,
    "config": _PATIENT,
    "name": _SHORT,
    "refused": _SHORT,
    "unreachable": _SHORT,
    "timeout": _SHORT,
    "closed": _SHORT,
    "sessions": _SHORT,
    "hang": _SHORT,
    "shell": _SHORT,
    "lost": (0.0, 5.0, 15.0, 60.0, 300.0),
    "other": _SHORT,
}
"""Seconds until the next try, by kind and number of failures in a row; the last one stays."""

# (pattern in what ssh printed, kind, sentence, hint); the first that is found counts. {host} is the name that was given to ssh.
_RULES: tuple[tuple[str, str, str, str], ...] = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed", "hostkey",
     "the host key of {host} is not the one in known_hosts",
     "if the site announced a new key, remove the old one with `ssh-keygen -R`, then `ssh {host}` once and compare the fingerprint"),
    (r"Host key verification failed|host key is known for", "hostkey",
     "the host key of {host} is not in known_hosts",
     "run `ssh {host}` once and compare the fingerprint with the one that the site publishes"),
    (r"Too many authentication failures", "auth",
     "{host} refuses the login: too many keys were offered", "name the right one in ~/.ssh/config: IdentityFile, IdentitiesOnly yes"),
    (r"(?:[^\s:]+: )?Permission denied \((?:keyboard-interactive|password)(?:,keyboard-interactive|,password)*\)", "person",
     "{host} asks whoever comes in for a password or a code ({found})",
     "`icp login` opens the connection at a terminal, and ticks use it"),
    (r"(?:[^\s:]+: )?Permission denied \([^\n)]+\)", "login",
     "{host} refuses the login ({found})",
     "`icp login` opens the connection at a terminal; without that `ssh {host} true` must work without a question{agent}"),
    (r"(?:[^\s:]+: )?Permission denied[^\n]*|No (?:more|supported) authentication methods[^\n]*", "auth",
     "{host} refuses the login ({found})", "`ssh {host} true` must work without a question{agent}"),
    (r"(?:Your|[Uu]ser) (?:account|password) has expired|account is (?:locked|disabled|currently not available)", "auth",
     "{host} refuses the login: {found}", "ask the site"),
    (r"Bad configuration option|terminating, \d+ bad configuration|Bad owner or permissions on [^\n]*", "config",
     "ssh does not accept its own configuration ({found})", "mend ~/.ssh/config, then try `ssh {host} true`"),
    (r"too long for Unix domain socket|ControlPath too long", "config",
     "the path of the shared connection's socket is too long", "set ICP_HOME or XDG_STATE_HOME to a shorter path"),
    (r"Could not resolve hostname|Name or service not known|Temporary failure in name resolution", "name",
     "the name {host} cannot be resolved", "check the network, the spelling, and `ssh -G {host}`"),
    (r"Session open refused by peer|open failed: administratively prohibited|too many sessions", "sessions",
     "{host} refuses one more session over the shared connection", "other programs use it too; it is tried again later"),
    (r"Connection refused", "refused",
     "{host} refuses connections: no sshd is listening", "the login node may be in maintenance; it is tried again later"),
    (r"No route to host|Network is unreachable|Host is down", "unreachable",
     "there is no way to {host} ({found})", "check the network or VPN; it is tried again later"),
    (r"timed out", "timeout", "{host} does not answer", "check the network or VPN; it is tried again later"),
    (r"Connection (?:closed|reset) by|kex_exchange_identification|Broken pipe|Connection to [^\n]* closed", "closed",
     "{host} closes the connection before the login", "it may be overloaded or block this address; it is tried again later"),
)  # fmt: skip


def classify(host: str, printed: str, *, key_agent: bool = True) -> Trouble:
    """What ssh's stderr means. ``key_agent``: there is an SSH_AUTH_SOCK (cron has none)."""
    agent = "" if key_agent else "; there is no key agent here (SSH_AUTH_SOCK is not set, as in cron jobs)"
    for pattern, kind, sentence, hint in _RULES:
        match = re.search(pattern, printed)
        if match:
            found = _plain(match[0])
            return Trouble(kind, sentence.format(host=host, found=found), hint.format(host=host, agent=agent))
    lines = [line for line in printed.strip().splitlines() if line.strip()]
    last = _plain(lines[-1]) if lines else "it said nothing"
    return Trouble("other", f"ssh to {host} failed ({last})", f"try `ssh {host} true`")


def refused_person(host: str, printed: str, code: int) -> Trouble:
    """The same where a person was asked, and answered or did not."""
    found = classify(host, printed)
    if found.kind in ("person", "login"):
        return Trouble("login", f"{host} did not take what was typed",
                       "a code holds for a moment, and often only once; after several wrong ones a site may lock the account")  # fmt: skip
    if found.kind == "closed":
        return Trouble("login", f"{host} closed the connection before anybody was in",
                       "a wrong answer to a host on the way, or none within a minute or two: try again, with the code at hand")  # fmt: skip
    if found.kind == "other":
        return Trouble("login", f"{host} was not entered (ssh ended with {code})", "what ssh said is above")
    return found


def _plain(text: str) -> str:
    """One short line without control characters: it comes from the other side."""
    return "".join(char if char.isprintable() else "?" for char in text.strip())[:200]


@dataclass(frozen=True, slots=True)
class Standing:
    """A trouble that is not over: since when (Unix time), how often in a row, and when the host is tried again."""

    trouble: Trouble
    since: float
    count: int
    again: float


class Memory:
    """The trouble of one host, in a file, so that cron's next run does not knock at once either. ``now`` is Unix time."""

    def __init__(self, path: Path, backoff: Mapping[str, Sequence[float]] = BACKOFF) -> None:
        self.path, self.backoff = path, backoff
        self._asks = path.with_suffix(".asks")

    def standing(self) -> Standing | None:
        """What is remembered; None if all was well, or the file cannot be read."""
        try:
            row = json.loads(self.path.read_text(encoding="utf-8"))
            trouble = Trouble(str(row["kind"]), str(row["sentence"]), str(row["hint"]))
            return Standing(trouble, float(row["since"]), int(row["count"]), float(row["again"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def wait(self, now: float) -> float:
        """Seconds for which the host is left alone from now on; never more than the longest step, whatever the clock did."""
        known = self.standing()
        if known is None:
            return 0.0
        left = known.again - now
        return left if 0 < left <= max(self._steps(known.trouble.kind)) else 0.0

    @property
    def asks(self) -> bool:
        """Whether the host was found to let only a person in: no key is wanted there that is not taken already, a password or a code is.

        That outlives the person's connection: when it ends, nobody but a person tries.
        """
        return self._asks.exists()

    def remember(self, trouble: Trouble, now: float) -> None:
        """One more failure."""
        if trouble.kind == "person":
            with contextlib.suppress(OSError):
                self._asks.touch()
        known = self.standing()
        since, count = (now, 1) if known is None else (known.since, known.count + 1)
        steps = self._steps(trouble.kind)
        again = now + steps[min(count, len(steps)) - 1]
        row = {"kind": trouble.kind, "sentence": trouble.sentence, "hint": trouble.hint, "since": since, "count": count, "again": again}
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(row), encoding="utf-8")
            part.replace(self.path)

    def forget(self) -> None:
        """All is well."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def try_now(self) -> None:
        """A person says so: even whether the host still asks is looked at anew."""
        for path in (self.path, self._asks):
            with contextlib.suppress(OSError):
                path.unlink()

    def _steps(self, kind: str) -> Sequence[float]:
        return self.backoff.get(kind) or self.backoff["other"]
