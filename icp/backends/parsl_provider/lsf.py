"""LSF by Parsl: bsub's options, and what bsub says (hides LSFProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from parsl.providers import LSFProvider

from icp.backends.parsl_provider.dialect import FULL, MISSING, Check, Dialect, Refusal, flag, mib, number, pattern, word
from icp.model.batch import Wanted

__all__ = ["Lsf"]


class Lsf(Dialect):
    """``bsub`` of IBM Spectrum LSF."""

    provider = LSFProvider
    program = "bsub"
    mark = "#BSUB"
    line = re.compile(r"#BSUB +-([A-Za-z][A-Za-z0-9_]*)(?: +(?:[A-Za-z0-9_.,:@+=/*&|()\[\]%-]+|\"[A-Za-z0-9_ .,:@+=/*&|()\[\]<>!%-]+\"))?\Z")
    line_example = '#BSUB -R "rusage[scratch=10]"'
    ours = frozenset(("J", "o", "e", "oo", "eo", "r", "rn", "H", "K", "I", "Is", "Ip", "W", "n", "nnodes", "cwd", "w", "b", "t", "P", "q"))
    said: ClassVar[Mapping[str, str]] = {
        "queue": "pilot.partition", "project": "pilot.account", "cores_per_node": "pilot.cpus", "cores_per_block": "pilot.cpus and pilot.nodes",
    }  # fmt: skip
    lacks: ClassVar[Mapping[str, str]] = {"qos": "LSF has no QOS: a service class is scheduler_options = '#BSUB -sla NAME'"}
    checks: ClassVar[Mapping[str, Check]] = {
        "request_by_nodes": flag,
        "pilot.constraint": pattern(r"[A-Za-z0-9_(!][A-Za-z0-9_.:=<>!&|()*+/-]*", "expected a selection of hosts without blanks such as avx512&&mem>8000"),
    }
    extra: ClassVar[Mapping[str, Check]] = {"priority": number, "exclusive": flag, "app": word}
    refusals = (
        Refusal(r"No such queue", "there is no such queue", "set pilot.partition to one of `bqueues`"),
        Refusal(r"cannot use the queue|Queue .* not .*accept|not permitted to use", "the queue is not open to this person", "choose another pilot.partition"),
        Refusal(r"RUNLIMIT|[Rr]un limit", "the walltime is over the queue's limit", "lower pilot.walltime (`bqueues -l QUEUE`)"),
        Refusal(r"MEMLIMIT|TASKLIMIT|PROCLIMIT|[Tt]oo many (?:processors|tasks)|CORELIMIT", "it asks for more than the queue allows",
                "lower pilot.cpus, pilot.nodes or pilot.memory (`bqueues -l QUEUE`)"),
        Refusal(r"[Pp]roject|[Cc]annot be accepted.*account|esub", "the project is not known, or the site's rules refuse the job", "set pilot.account"),
        Refusal(r"[Bb]ad resource requirement|[Uu]nknown resource|Bad argument|Illegal option", "a value is not what LSF expects",
                "correct pilot.constraint or pilot.options.scheduler_options"),
        Refusal(r"Queue has been closed|Queue is closed", "the queue is closed", "it is tried again later", again=True),
        Refusal(r"[Pp]ending job threshold|limit.*reached|job limit", "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        Refusal(r"LSF is down|Cannot connect to LSF|[Cc]onnection refused|Failed in an LSF library call", "the batch system cannot be reached",
                "it is tried again later", again=True),
        FULL,
        MISSING("bsub"),
    )  # fmt: skip
    unclear = re.compile(r"[Tt]imed? ?out|[Cc]ommunication|Connection reset|Request aborted|batch daemon not responding")

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        options, cpus = wanted.options, wanted.cpus or 1
        lines = ["#BSUB -rn"]
        if wanted.memory:
            lines.append(f'#BSUB -R "rusage[mem={mib(wanted.memory)}MB]"')
        if wanted.gpus:
            lines.append(f'#BSUB -gpu "num={wanted.gpus}"')
        if wanted.constraint is not None:
            lines.append(f'#BSUB -R "select[{wanted.constraint}]"')
        if options.get("exclusive"):
            lines.append("#BSUB -x")
        if "app" in options:
            lines.append(f"#BSUB -app {options['app']}")
        if "priority" in options:
            lines.append(f"#BSUB -sp {options['priority']}")
        each = (
            "n=0\n"
            'for host in $(printf "%s\\n" $LSB_HOSTS | sort -u); do\n'
            f'  blaunch "$host" /usr/bin/env ICP_NODE=$n /bin/sh {wanted.folder}/pilot.sh &\n'
            "  n=$((n + 1))\n"
            "done\n"
            "wait; wait"
        )
        return {
            # -nnodes, Parsl's default, is of LSF with CSM alone
            "request_by_nodes": False, **self.base(wanted, each), "cores_per_block": cpus * wanted.nodes, "cores_per_node": cpus,
            "project": wanted.account, "queue": wanted.partition, "scheduler_options": self.lines(wanted, *lines), "bsub_redirection": True,
        }  # fmt: skip

    def command(self, wanted: Wanted, words: list[str]) -> list[str]:  # noqa: ARG002
        """bsub reads #BSUB lines from its input only."""
        return ["/bin/sh", "-c", 'exec bsub < "$0"', words[-1]]

    def cancel_name(self, name: str) -> list[str]:
        return ["bkill", "-J", name, "0"]
