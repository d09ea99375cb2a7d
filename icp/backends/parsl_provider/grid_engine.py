"""Grid Engine by Parsl: qsub's options, and what qsub says (hides GridEngineProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from parsl.providers import GridEngineProvider

from icp.backends.parsl_provider.dialect import FULL, MISSING, Check, Dialect, Refusal, flag, mib, number, pattern, word
from icp.model.batch import Wanted

__all__ = ["GridEngine"]

_PE, _MEMORY, _GPU = "smp", "mem_free", "gpu"
"""How most sites name the parallel environment of one node, and resources; Grid Engine itself prescribes none."""


class GridEngine(Dialect):
    """``qsub`` of Sun, Son of, Open and Univa Grid Engine."""

    provider = GridEngineProvider
    program = "qsub"
    mark = "#$"
    line = re.compile(r"#\$ +-([A-Za-z][A-Za-z_]*)(?: +[A-Za-z0-9_.,:@+=/*!&|()\[\]%-]+)*\Z")
    line_example = "#$ -l scratch=10G"
    ours = frozenset(("N", "o", "e", "j", "r", "t", "h", "hold_jid", "cwd", "wd", "terse", "sync", "b", "S", "pe", "now", "verify"))
    said: ClassVar[Mapping[str, str]] = {"queue": "pilot.partition"}
    lacks: ClassVar[Mapping[str, str]] = {"qos": "Grid Engine has no QOS: remove it"}
    checks: ClassVar[Mapping[str, Check]] = {
        "pilot.constraint": pattern(r"[A-Za-z_][A-Za-z0-9_.,:=*!&|()\[\]-]*", "expected resources such as cpu_type=epyc,avx512=true"),
    }
    extra: ClassVar[Mapping[str, Check]] = {
        "pe": word, "memory_resource": word, "gpu_resource": word, "exclusive": flag, "priority": number,
    }  # fmt: skip
    refusals = (
        Refusal(r"unknown queue|[Qq]ueue \S+ does not exist", "there is no such queue", "set pilot.partition to one of `qconf -sql`"),
        Refusal(r"project .* does not exist|no access to project|not.*permitted.*project|project.*not.*allow",
                "the project is not known, or not open to this person", "set pilot.account to one of `qconf -sprjl`"),
        Refusal(r"parallel environment .* does not exist", "there is no such parallel environment",
                "set pilot.options.pe to one of `qconf -spl` that gives all slots on one node"),
        Refusal(r"unknown resource", "the site has no resource of this name",
                "`qconf -sc` lists them: see pilot.options.memory_resource, pilot.options.gpu_resource and pilot.constraint"),
        Refusal(r"no suitable queues", "no queue may ever run this", "lower pilot.cpus, pilot.memory or pilot.walltime (`qhost`, `qconf -sq QUEUE`)"),
        Refusal(r"not a (?:time|memory|int) value|is not a valid", "a value is not what Grid Engine expects", "correct site.NAME.pilot"),
        Refusal(r"only \d+ jobs are allowed per user|max_u_jobs|quota rule|job limit", "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        Refusal(r"only \d+ jobs are allowed|max_jobs", "the batch system is full", "it is tried again later", again=True),
        Refusal(r"unable to (?:contact|send message to) qmaster|can.?t reach qmaster|commlib error|can.t (?:resolve|connect)|no qmaster",
                "the batch system cannot be reached", "it is tried again later", again=True),
        FULL,
        MISSING("qsub"),
    )  # fmt: skip
    unclear = re.compile(r"got read error|failed receiving gdi request|timeout|[Cc]onnection reset|invalid gdi|endpoint is not unique")

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        options = wanted.options
        slots = (wanted.cpus or 1) * wanted.nodes
        lines = [f"#$ -N {wanted.name}", "#$ -r n"]
        if slots > 1 or "pe" in options:
            lines.append(f"#$ -pe {options.get('pe', _PE)} {slots}")
        if wanted.account is not None:
            lines.append(f"#$ -P {wanted.account}")
        if wanted.memory:
            # what is consumed is counted for each slot
            lines.append(f"#$ -l {options.get('memory_resource', _MEMORY)}={mib(-(-wanted.memory // (wanted.cpus or 1)))}M")
        if wanted.gpus:
            lines.append(f"#$ -l {options.get('gpu_resource', _GPU)}={wanted.gpus}")
        if options.get("exclusive"):
            lines.append("#$ -l exclusive=true")
        if "priority" in options:
            lines.append(f"#$ -p {options['priority']}")
        if wanted.constraint is not None:
            lines.append(f"#$ -l {wanted.constraint}")
        each = (
            "n=0\n"
            "for one in $(awk '{slots[$1] += $2} END {for (host in slots) print host \":\" slots[host]}' \"$PE_HOSTFILE\"); do\n"
            f'  qrsh -inherit -nostdin "${{one%%:*}}" /usr/bin/env ICP_NODE=$n NSLOTS="${{one##*:}}" /bin/sh {wanted.folder}/pilot.sh &\n'
            "  n=$((n + 1))\n"
            "done\n"
            "wait; wait"
        )
        return {**self.base(wanted, each), "queue": wanted.partition, "scheduler_options": self.lines(wanted, *lines)}

    def cancel_name(self, name: str) -> list[str]:
        return ["qdel", name]
