"""SLURM by Parsl: sbatch's options, and what sbatch says (hides SlurmProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

from icp.backends.parsl_provider.dialect import FULL, MISSING, Check, Dialect, Refusal, mib, pattern
from icp.model.batch import Wanted

__all__ = ["Slurm"]


class Slurm(Dialect):
    """``sbatch``."""

    provider = SlurmProvider
    program = "sbatch"
    mark = "#SBATCH"
    line = re.compile(r"#SBATCH +-{1,2}([A-Za-z][A-Za-z0-9-]*)(?:[ =][A-Za-z0-9_.,:@+=/*&|()\[\]%-]+)?\Z")
    line_example = "#SBATCH --licenses=geant:1"
    ours = frozenset(
        ("job-name", "output", "error", "requeue", "no-requeue", "array", "parsable", "wait", "wrap", "chdir", "hold", "nodes", "ntasks", "time")
    )
    said: ClassVar[Mapping[str, str]] = {
        "partition": "pilot.partition", "account": "pilot.account", "qos": "pilot.qos", "constraint": "pilot.constraint",
        "nodes_per_block": "pilot.nodes", "cores_per_node": "pilot.cpus", "mem_per_node": "pilot.memory", "gpus_per_node": "pilot.gpus",
    }  # fmt: skip
    # only ever in a line that begins with #SBATCH, where no shell reads it
    checks: ClassVar[Mapping[str, Check]] = {
        "regex_job_id": lambda value: None,
        "pilot.constraint": pattern(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:@+=*&|()\[\]-]*", "expected one word without blanks, quotes or characters of the shell"),
    }
    refusals = (
        Refusal(r"[Ii]nvalid account|account/partition combination", "the account is not known, or not for this partition",
                "set pilot.account to one of `sacctmgr show assoc user=$USER format=account,partition`"),
        Refusal(r"[Ii]nvalid partition", "there is no such partition", "set pilot.partition to one of `sinfo -s`"),
        Refusal(r"[Ii]nvalid qos", "the QOS is not known, or not for this account",
                "set pilot.qos to one of `sacctmgr show assoc user=$USER format=qos`"),
        Refusal(r"[Rr]equested time limit is invalid|time limit.*exceed|PartitionTimeLimit", "the walltime is over the partition's limit",
                "lower pilot.walltime (`sinfo -o '%P %l'` shows the limits)"),
        Refusal(r"[Ii]nvalid feature", "no node has this constraint", "set pilot.constraint to features of `sinfo -o '%P %f'`"),
        Refusal(r"[Ii]nvalid generic resource|Invalid GRES", "the partition has no such gpus", "look at `sinfo -o '%P %G'` and set pilot.gpus"),
        Refusal(r"Memory specification|CPU count per node|node configuration is not available|Node count specification",
                "no node of the partition has so much", "lower pilot.cpus, pilot.memory or pilot.nodes (`sinfo -e -o '%P %D %c %m %G'`)"),
        Refusal(r"Access/permission denied|User's group not permitted|not permitted to use this partition",
                "the partition is not open to this person", "choose another pilot.partition"),
        Refusal(r"MaxSubmit|[Jj]ob violates accounting/QOS policy|submit limit", "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        Refusal(r"Partition is down|PartitionDown|[Pp]artition.*(?:inactive|drain)", "the partition is closed", "it is tried again later", again=True),
        Refusal(r"[Uu]nable to contact slurm controller|slurmctld.*not respond|temporarily unable|[Rr]esource temporarily unavailable",
                "the batch system cannot be reached", "it is tried again later", again=True),
        FULL,
        MISSING("sbatch"),
    )  # fmt: skip
    unclear = re.compile(
        r"[Ss]ocket timed out|[Zz]ero [Bb]ytes|[Tt]ransport endpoint|receive fail|Message (?:send|receive) failure|Unexpected message"
        r"|[Ii]/O error|Connection reset"
    )

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        first = ["#SBATCH --no-requeue"]
        after = [f"#SBATCH --mem={mib(wanted.memory)}M"] if wanted.memory else []  # Parsl has whole GB only
        after += [f"#SBATCH --gpus-per-node={wanted.gpus}"] if wanted.gpus else []
        arguments = {"exclusive": False, **self.base(wanted), "cores_per_node": wanted.cpus}
        arguments["scheduler_options"] = "\n".join([self.lines(wanted, *first), *after])
        for name in ("partition", "account", "qos", "constraint"):
            if getattr(wanted, name) is not None:
                arguments[name] = getattr(wanted, name)
        if wanted.nodes > 1:
            # since 22.05 srun does not take --cpus-per-task over from the job
            cpus = f" --cpus-per-task={wanted.cpus}" if wanted.cpus else ""
            arguments["launcher"] = SrunLauncher(overrides=f"--nodes={wanted.nodes} --ntasks-per-node=1{cpus} --kill-on-bad-exit=0")
        return arguments

    def command(self, wanted: Wanted, words: list[str]) -> list[str]:
        """SBATCH_... of the person's environment wins over a script: what is asked for here must not be overruled there."""
        names = ["JOB_NAME", "TIMELIMIT", "REQUEUE", "NO_REQUEUE", "EXCLUSIVE", "ARRAY_INX", "HOLD", "WAIT", "OUTPUT", "ERROR"]
        for name, asked in (("PARTITION", wanted.partition), ("ACCOUNT", wanted.account), ("QOS", wanted.qos), ("CONSTRAINT", wanted.constraint),
                            ("GPUS_PER_NODE", wanted.gpus), ("MEM_PER_NODE", wanted.memory), ("MEM_PER_CPU", wanted.memory)):  # fmt: skip
            if asked is not None:
                names.append(name)
        return ["env", *(one for name in sorted(names) for one in ("-u", f"SBATCH_{name}")), *words]

    def cancel_name(self, name: str) -> list[str]:
        return ["scancel", f"--name={name}"]
