"""What calls a command every few minutes while nobody is logged in, one class each: crontab, systemd's user timers, scrontab (hides their files).

Each keeps what others wrote as it is: ours is known by a tag at its end, in its name, or both.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from icp.errors import BadInput, Failed

__all__ = ["TIMERS", "Crontab", "Scrontab", "Systemd", "Timer", "Work"]

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is called: ``tag`` is its name among all that a person has; ``every`` in minutes, a divisor of 60."""

    tag: str
    every: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    printed: Path
    """Where what it prints goes, where nobody mails it."""
    options: tuple[str, ...] = ()
    """Of the batch system, for scrontab."""

    @property
    def minutes(self) -> str:
        """The first field of a crontab's line. Not all people's at the full minute of five: login nodes feel that."""
        if self.every == 1:
            return "*"
        first = int(hashlib.sha256(self.tag.encode()).hexdigest(), 16) % self.every
        return str(first) if self.every == 60 else f"{first}-59/{self.every}"

    @property
    def command(self) -> str:
        """One line of sh, marked as ours by a comment."""
        words = [*(f"{name}={shlex.quote(value)}" for name, value in self.env.items()), *map(shlex.quote, self.argv)]
        text = " ".join(words)
        if not text.isprintable():
            raise BadInput("a path with control characters cannot stand in a crontab", "set ICP_HOME to another directory")
        return f"{text} # {self.tag}"


class Timer(Protocol):
    """One way to be called."""

    name: str

    def missing(self) -> str:
        """Why it cannot be used on this machine; "" where it can."""

    def shown(self, work: Work) -> str:
        """The text that is put there."""

    def installed(self, tag: str) -> str:
        """What is there of ours; "" for nothing."""

    def install(self, work: Work) -> None:
        """Put it there, in place of what was there of ours. Raises Failed with what the system said."""

    def remove(self, tag: str) -> None:
        """Take away what is ours, and nothing else."""

    def notes(self) -> list[str]:
        """What a person must know about it on this machine."""


def _run(argv: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]} did not answer within {_PATIENCE:.0f} s") from None
    except OSError as error:
        raise Failed(f"{argv[0]}: {error.strerror}") from None


def _must(argv: Sequence[str], stdin: str = "") -> str:
    done = _run(argv, stdin)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"`{' '.join(argv)}` failed: {said[-1] if said else 'exit ' + str(done.returncode)}")
    return done.stdout


class Crontab:
    """A line in the crontab of this machine, with its tag as a comment of sh at the end."""

    name = "crontab"

    def missing(self) -> str:
        return "" if shutil.which(self.name) else f"there is no {self.name} here"

    def shown(self, work: Work) -> str:
        # an unescaped % ends the command for cron
        return f"{work.minutes} * * * * {work.command}".replace("%", "\\%")

    def text(self) -> str:
        """All that is there, also of others."""
        done = _run([self.name, "-l"])
        if done.returncode != 0:
            if "no crontab" in done.stderr.lower():
                return ""
            raise Failed(f"`{self.name} -l` failed: {done.stderr.strip() or done.returncode}", "a crontab may be forbidden here: try `--with systemd`")
        return done.stdout

    def without(self, text: str, tag: str) -> str:
        """The text without ours."""
        return "".join(line for line in text.splitlines(keepends=True) if not line.rstrip().endswith(f" # {tag}"))

    def installed(self, tag: str) -> str:
        return "\n".join(line for line in self.text().splitlines() if line.rstrip().endswith(f" # {tag}"))

    def install(self, work: Work) -> None:
        if self.installed(work.tag) == self.shown(work):
            return
        rest = self.without(self.text(), work.tag)
        self._write(rest + ("" if rest.endswith("\n") or not rest else "\n") + self.shown(work) + "\n")

    def remove(self, tag: str) -> None:
        before = self.text()
        rest = self.without(before, tag)
        if rest == before:
            return
        if rest.strip():
            self._write(rest)
        else:
            _must([self.name, "-r"])

    def _write(self, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="icp-", suffix=".crontab", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _must([self.name, file.name])

    def notes(self) -> list[str]:
        return [] if _runs(("cron", "crond", "anacron", "systemd-cron", "fcron")) else ["no cron daemon is seen on this machine: nobody may read the crontab"]


def _runs(names: Sequence[str]) -> bool:
    """Whether a process of one of these names is seen; a system that does not show them is believed to have one."""
    if not os.path.isdir("/proc/self"):
        return True
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if Path(f"/proc/{name}/comm").read_text(encoding="utf-8", errors="replace").strip() in names:
                    return True
            except OSError:
                continue
    return False


class Scrontab(Crontab):
    """SLURM's: a batch job every few minutes, in which all ends that it started."""

    name = "scrontab"

    def shown(self, work: Work) -> str:
        if "%" in work.command + str(work.printed):
            raise BadInput("a path with % cannot stand in a scrontab", "set ICP_HOME to another directory, or `--with crontab`")
        lines = [f"#SCRON --job-name={work.tag}", "#SCRON --time=00:30:00", f"#SCRON --output={work.printed}", "#SCRON --open-mode=truncate"]
        lines += [f"#SCRON {option}" for option in work.options]
        return "\n".join([*lines, f"{work.minutes} * * * * {work.command}"])

    def without(self, text: str, tag: str) -> str:
        kept: list[str] = []
        for line in text.splitlines(keepends=True):
            if not line.rstrip().endswith(f" # {tag}"):
                kept.append(line)
                continue
            while kept and kept[-1].startswith("#SCRON"):
                kept.pop()
        return "".join(kept)

    def installed(self, tag: str) -> str:
        lines: list[str] = []
        for line in self.text().splitlines():
            if line.rstrip().endswith(f" # {tag}"):
                return "\n".join([*lines, line])
            lines = [*lines, line] if line.startswith("#SCRON") else []
        return ""

    def notes(self) -> list[str]:
        return [
            "each tick is a batch job on some node: that node must see the ledger, and reach the sites by ssh",
            "SLURM ends all that a tick leaves behind: connections of `icp login` and pilots on this machine itself do not live there",
        ]


class Systemd:
    """A timer and a service of the user's own service manager."""

    name = "systemd"

    @property
    def folder(self) -> Path:
        config = os.environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if config.startswith("/") else Path.home() / ".config"
        return base / "systemd" / "user"

    def missing(self) -> str:
        if not shutil.which("systemctl"):
            return "there is no systemctl here"
        done = _run(["systemctl", "--user", "show-environment"])
        said = done.stderr.strip().splitlines()
        return "" if done.returncode == 0 else f"systemd has no service manager for you here ({said[-1] if said else done.returncode})"

    def _texts(self, work: Work) -> dict[str, str]:
        env = "".join(f"Environment={_unit_word(f'{name}={value}')}\n" for name, value in work.env.items())
        first = work.minutes.split("-")[0]
        when = "*" if work.every == 1 else f"{first}/{work.every}" if work.every < 60 else first
        service = (
            f"[Unit]\nDescription=one tick of icp ({work.tag})\n\n[Service]\nType=oneshot\n{env}"
            f"ExecStart={' '.join(_unit_word(word.replace('$', '$$')) for word in work.argv)}\n"
            # shared connections and pilots on this machine outlive the tick
            "KillMode=process\nTimeoutStartSec=30min\n"
        )
        timer = (
            f"[Unit]\nDescription=icp every {work.every} min ({work.tag})\n\n[Timer]\nOnCalendar=*:{when}\nAccuracySec=10s\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
        return {f"{work.tag}.service": service, f"{work.tag}.timer": timer}

    def shown(self, work: Work) -> str:
        return "\n".join(f"# {self.folder / name}\n{text}" for name, text in self._texts(work).items()).rstrip("\n")

    def installed(self, tag: str) -> str:
        found = [self.folder / f"{tag}.service", self.folder / f"{tag}.timer"]
        return "\n".join(f"# {path}\n{path.read_text(encoding='utf-8')}" for path in found if path.exists()).rstrip("\n")

    def install(self, work: Work) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in self._texts(work).items():
            part = self.folder / f".{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(self.folder / name)
        _must(["systemctl", "--user", "daemon-reload"])
        _must(["systemctl", "--user", "enable", "--now", f"{work.tag}.timer"])

    def remove(self, tag: str) -> None:
        if not self.installed(tag):
            return
        _run(["systemctl", "--user", "disable", "--now", f"{tag}.timer"])
        for name in (f"{tag}.timer", f"{tag}.service"):
            (self.folder / name).unlink(missing_ok=True)
        _must(["systemctl", "--user", "daemon-reload"])

    def notes(self) -> list[str]:
        if not shutil.which("loginctl"):
            return []
        said = _run(["loginctl", "show-user", str(os.getuid()), "-p", "Linger"]).stdout.strip()
        if said == "Linger=yes":
            return []
        return ["it ticks only while you are logged in: `loginctl enable-linger` lets it go on (where the administrators allow that)"]


def _unit_word(text: str) -> str:
    """A word as systemd.syntax(7) has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if not re.fullmatch(r"[A-Za-z0-9_./=:@,+%$-]+", text) else escaped


TIMERS: Mapping[str, Timer] = {one.name: one for one in (Crontab(), Systemd(), Scrontab())}
"""By the names of ``--with``, in the order in which they are tried without it."""
