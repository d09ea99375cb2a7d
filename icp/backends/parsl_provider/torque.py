"""Torque by Parsl: qsub's options, and what qsub says (hides TorqueProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from parsl.providers import TorqueProvider

from icp.backends.parsl_provider.dialect import Check, Dialect, Refusal, flag, mib, number, pattern, word
from icp.backends.parsl_provider.pbs import CANCEL_NAME, JOB, REACH, UNCLEAR, Pbs
from icp.backends.parsl_provider.slurm import Slurm
from icp.model.batch import Wanted

__all__ = ["Torque"]


class Torque(Dialect):
    """``qsub`` of Torque, and of Torque's commands over SLURM."""

    provider = TorqueProvider
    program = "qsub"
    mark = "#PBS"
    line, line_example, ours = Pbs.line, "#PBS -l file=10gb", Pbs.ours
    said: ClassVar[Mapping[str, str]] = {"queue": "pilot.partition", "account": "pilot.account"}
    checks: ClassVar[Mapping[str, Check]] = {
        "pilot.constraint": pattern(r"[A-Za-z_][A-Za-z0-9_.:=-]*", "expected properties of nodes such as ib:bigmem"),
    }
    extra: ClassVar[Mapping[str, Check]] = {"priority": number, "exclusive": flag, "reservation": word}
    refusals = (
        Refusal(r"Unknown queue|[Ii]nvalid partition", "there is no such queue", "set pilot.partition to one of `qstat -q`"),
        Refusal(r"Invalid time limit", "the walltime is not what Torque expects", "correct pilot.walltime"),
        Refusal(r"Unauthorized Request|[Ii]nvalid [Aa]ccount|Account.*not", "the queue or account is not open to this person",
                "set pilot.partition and pilot.account"),
        Refusal(r"exceeds? (?:available partition|queue).*|cannot satisfy.*|Job exceeds queue resource limits|nonexistent node property"
                r"|Invalid node name|Invalid feature", "no node of the queue has so much, or such a property",
                "lower pilot.cpus, pilot.memory, pilot.nodes or pilot.walltime, or correct pilot.constraint (`pbsnodes`, `qstat -Qf`)"),
        Refusal(r"Unknown resource|[Ii]llegal attribute", "a value is not what Torque expects", "correct site.NAME.pilot"),
        Refusal(r"Maximum number of jobs already", "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        *REACH,
        *Slurm.refusals,  # where Torque's commands are SLURM's, SLURM says no
    )  # fmt: skip
    unclear = UNCLEAR
    job = JOB

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        options = wanted.options
        lines = ["#PBS -r n"]
        if wanted.memory:
            lines.append(f"#PBS -l mem={mib(wanted.memory) * wanted.nodes}mb")
        if wanted.qos is not None:
            lines.append(f"#PBS -l qos={wanted.qos}")
        if options.get("exclusive"):
            lines.append("#PBS -l naccesspolicy=singlejob")
        if "reservation" in options:
            lines.append(f"#PBS -l advres={options['reservation']}")
        if "priority" in options:
            lines.append(f"#PBS -p {options['priority']}")
        return {
            **self.base(wanted, f"pbsdsh -u /bin/sh {wanted.folder}/pilot.sh"), "account": wanted.account, "queue": wanted.partition,
            "scheduler_options": self.lines(wanted, *lines),
        }  # fmt: skip

    def tasks(self, wanted: Wanted) -> int:
        return wanted.cpus or 1  # Parsl's ppn

    def text(self, wanted: Wanted, text: str) -> str:
        """What Parsl's line of nodes has no place for."""
        more = ([f"gpus={wanted.gpus}"] if wanted.gpus else []) + ([wanted.constraint] if wanted.constraint is not None else [])
        return re.sub(r"^(#PBS -l nodes=\S+)$", lambda match: ":".join([match[1], *more]), text, flags=re.MULTILINE)

    def command(self, wanted: Wanted, words: list[str]) -> list[str]:
        """Where Torque's commands are SLURM's, lines of the script name neither job nor files: only options do."""
        return [words[0], "-N", wanted.name, "-o", f"{wanted.folder}/stdout", "-e", f"{wanted.folder}/stderr", *words[1:]]

    def cancel_name(self, name: str) -> list[str]:
        return ["/bin/sh", "-c", CANCEL_NAME, name]
