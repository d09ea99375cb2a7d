"""PBS Professional and OpenPBS by Parsl: qsub's options, and what qsub says (hides PBSProProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from parsl.providers import PBSProProvider

from icp.backends.parsl_provider.dialect import FULL, MISSING, Check, Dialect, Refusal, flag, mib, number, pattern, word
from icp.model.batch import Wanted

__all__ = ["CANCEL_NAME", "JOB", "REACH", "UNCLEAR", "Pbs"]

JOB = re.compile(r"[0-9]+(?:\[\])?(?:\.[A-Za-z0-9._-]+)?\Z")
# qdel knows no names; the whole listing does, and this is rare
CANCEL_NAME = (
    "all=$(qstat -f) || exit\n"
    "ids=$(printf '%s\\n' \"$all\" | awk -v name=\"$0\" '/^Job Id:/ {id = $3} $1 == \"Job_Name\" && $3 == name {print id}')\n"
    '[ -z "$ids" ] || exec qdel $ids'
)
UNCLEAR = re.compile(
    r"[Ee]nd of [Ff]ile|[Pp]rotocol|Expired|[Tt]imed? ?out|Connection (?:reset|closed)|errno=(?:104|110|15031|15033)|(?:15031|15033|15095)"
    r"|[Bb]roken pipe|[Ss]ocket timed out|[Zz]ero [Bb]ytes"
)
REACH: Sequence[Refusal] = (
    Refusal(r"cannot connect to server|[Cc]onnection refused|[Nn]o default server|[Ss]erver (?:is )?shutting down|Communication failure"
            r"|Unable to contact slurm controller|[Cc]annot contact|pbs_iff",
            "the batch system cannot be reached", "it is tried again later", again=True),
    FULL,
    MISSING("qsub"),
)  # fmt: skip

_CHUNK = pattern(r":?[A-Za-z_][A-Za-z0-9_.,:@+=/-]*", "expected parts of a chunk such as model=icelake:mpiprocs=1")


class Pbs(Dialect):
    """``qsub`` of PBS Professional and OpenPBS."""

    provider = PBSProProvider
    program = "qsub"
    mark = "#PBS"
    line = re.compile(r"#PBS +-([A-Za-z])(?: +[A-Za-z0-9_.,:@+=/*&|()\[\]%-]+)?\Z")
    line_example = "#PBS -l filesystems=home:grand"
    ours = frozenset(("N", "o", "e", "j", "r", "J", "h", "I", "X", "k", "R", "S", "z", "m", "a"))
    said: ClassVar[Mapping[str, str]] = {"queue": "pilot.partition", "account": "pilot.account", "cpus_per_node": "pilot.cpus"}
    lacks: ClassVar[Mapping[str, str]] = {"qos": "PBS has no QOS: it is a queue (pilot.partition) or a priority (pilot.options.priority)"}
    checks: ClassVar[Mapping[str, Check]] = {
        "select_options": _CHUNK,
        "pilot.constraint": _CHUNK,
    }
    extra: ClassVar[Mapping[str, Check]] = {"project": word, "priority": number, "exclusive": flag}
    refusals = (
        Refusal(r"Unknown queue", "there is no such queue", "set pilot.partition to one of `qstat -Q`"),
        Refusal(r"No default queue specified", "the server has no default queue", "set pilot.partition to one of `qstat -Q`"),
        Refusal(r"Unauthorized Request|Access to queue is denied|not allowed to submit", "the queue is not open to this person",
                "choose another pilot.partition"),
        Refusal(r"[Ii]nvalid account|[Aa]ccount.*(?:not|invalid)|[Ii]nvalid project|[Pp]roject.*(?:not|invalid)|Account_Name",
                "the account or project is not known, or not yours", "set pilot.account (-A) or pilot.options.project (-P)"),
        Refusal(r"exceed.*walltime|walltime.*exceed|walltime.*limit", "the walltime is over the queue's limit",
                "lower pilot.walltime (`qstat -Qf QUEUE` shows resources_max)"),
        Refusal(r"Job exceeds queue and/or server resource limits|violates queue and/or server resource limits|exceeds.*resource",
                "it asks for more than the queue allows",
                "lower pilot.cpus, pilot.memory, pilot.gpus, pilot.nodes or pilot.walltime (`qstat -Qf QUEUE` shows resources_max)"),
        Refusal(r"rejected by all possible destinations", "no queue behind this one takes it",
                "choose another pilot.partition, or lower pilot.cpus, pilot.memory, pilot.gpus, pilot.nodes or pilot.walltime"),
        Refusal(r"Unknown resource:? ngpus", "the site has no resource of the name ngpus",
                "leave pilot.gpus out, and ask for gpus as the site does, by pilot.constraint or another pilot.partition"),
        Refusal(r"Unknown resource", "the site has no resource of this name", "correct pilot.constraint or pilot.options.select_options"),
        Refusal(r"invalid in .select. specification|duplicated resource within|cannot be used with .select.",
                "a resource is where PBS does not take it",
                "what is of a chunk is pilot.constraint; what is of the whole job, such as walltime, is a line #PBS -l of pilot.options.scheduler_options"),
        Refusal(r"Bad [UG]ID for job execution|Access from host not allowed|[Ii]nvalid credential", "the server runs no jobs of this person from that host",
                "submit from another login node (site.NAME.host), or ask the site"),
        Refusal(r"[Ii]llegal attribute or resource value|Undefined attribute|illegal -\w value", "a value is not what PBS expects",
                "correct site.NAME.pilot"),
        Refusal(r"would exceed.*limit|[Mm]aximum number of jobs|per-user limit|limit on jobs", "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        Refusal(r"[Qq]ueue is not enabled|Queue is disabled|queue is stopped", "the queue is closed", "it is tried again later", again=True),
        *REACH,
    )  # fmt: skip
    unclear = UNCLEAR
    job = JOB

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        options = wanted.options
        chunk = [str(options["select_options"]).strip(":")] if "select_options" in options else []
        chunk += [f"mem={mib(wanted.memory)}mb"] if wanted.memory else []
        chunk += [f"ngpus={wanted.gpus}"] if wanted.gpus else []
        chunk += [wanted.constraint.strip(":")] if wanted.constraint is not None else []
        place = [*(["scatter"] if wanted.nodes > 1 else []), *(["excl"] if options.get("exclusive") else [])]
        lines = ["#PBS -r n"]
        if place:
            lines.append(f"#PBS -l place={':'.join(place)}")
        if "project" in options:
            lines.append(f"#PBS -P {options['project']}")
        if "priority" in options:
            lines.append(f"#PBS -p {options['priority']}")
        return {
            **self.base(wanted, f"pbsdsh -- /bin/sh {wanted.folder}/pilot.sh"), "cpus_per_node": wanted.cpus or 1,
            "account": wanted.account, "queue": wanted.partition, "select_options": ":".join(chunk), "scheduler_options": self.lines(wanted, *lines),
        }  # fmt: skip

    def cancel_name(self, name: str) -> list[str]:
        return ["/bin/sh", "-c", CANCEL_NAME, name]
