"""HTCondor by Parsl: condor_submit's commands, and what it says (hides CondorProvider)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from parsl.providers import CondorProvider

from icp.backends.parsl_provider.dialect import FULL, MISSING, Check, Dialect, Refusal, flag, mib, number, pattern, word
from icp.model.batch import Wanted

__all__ = ["Condor"]

_EXPRESSION = pattern(
    r"[A-Za-z0-9_!(\"][A-Za-z0-9_ .,:@+*/()\[\]&|!=<>?\"-]*", "expected a ClassAd expression without macros, such as HasAVX2 && Memory > 4000"
)
_VACATE, _PACKS = 15, 60
"""Seconds between SIGTERM and SIGKILL; HTCondor's default is ten minutes. The second where a pilot has still to pack what it did."""


class Condor(Dialect):
    """``condor_submit``. The spool has to be on a file system that execution points share; pilots are not transferred."""

    provider = CondorProvider
    program = "condor_submit"
    mark = ""
    line = re.compile(r"\+?([A-Za-z][A-Za-z0-9_.]*) *= *[A-Za-z0-9_ .,:@+*/()\[\]&|!=<>?\"%;-]+\Z")
    line_example = "+DesiredSites = \"Madison\""
    ours = frozenset((
        "queue", "executable", "arguments", "universe", "output", "error", "log", "environment", "getenv", "hold", "leave_in_queue", "periodic_remove",
        "periodic_release", "periodic_hold", "on_exit_remove", "on_exit_hold", "max_retries", "requirements", "icppilot", "batch_name", "jobbatchname",
        "transfer_output_files", "when_to_transfer_output", "should_transfer_files", "deferral_time", "initialdir", "request_cpus", "request_memory",
        "request_gpus", "request_disk", "kill_sig", "want_graceful_removal", "job_max_vacate_time",
    ))  # fmt: skip
    said: ClassVar[Mapping[str, str]] = {
        "cores_per_slot": "pilot.cpus", "mem_per_slot": "pilot.memory", "project": "pilot.account", "requirements": "pilot.constraint",
    }  # fmt: skip
    lacks: ClassVar[Mapping[str, str]] = {
        "partition": "HTCondor has no queues: machines are chosen by pilot.constraint, a ClassAd expression",
        "qos": "HTCondor has no QOS: remove it",
        "nodes": "HTCondor gives each pilot one machine: raise pilot.max instead",
    }
    checks: ClassVar[Mapping[str, Check]] = {
        "pilot.constraint": _EXPRESSION,
    }
    extra: ClassVar[Mapping[str, Check]] = {"priority": number, "nice_user": flag, "exclusive": flag, "accounting_group": word}
    refusals = (
        Refusal(r"Failed to connect to local queue manager|Can't find address of|Failed to connect to|[Uu]nable to contact|Communication error",
                "the batch system cannot be reached", "it is tried again later", again=True),
        Refusal(r"MAX_JOBS_PER_OWNER|MAX_JOBS_SUBMITTED|MAX_JOBS_PER_SUBMISSION|Number of submitted jobs would exceed",
                "the site takes no more jobs of this person for now",
                "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", again=True),
        Refusal(r"Parse error in expression|[Ss]yntax error|Invalid expression", "an expression is not in ClassAd's syntax",
                "correct pilot.constraint or pilot.options.scheduler_options"),
        Refusal(r"SUBMIT_REQUIREMENT|submit requirement|Failed to commit job submission|rejected by", "the site's rules refuse the job",
                "HTCondor's words say which rule; add what it asks for to pilot.options.scheduler_options"),
        Refusal(r"accounting group|AccountingGroup|project.*(?:not|invalid)", "the accounting group or project is not accepted",
                "set pilot.account to a project of yours, or pilot.options.accounting_group"),
        Refusal(r"AUTHENTICATE|PERMISSION DENIED|not authorized", "the batch system does not know this person", "get a token or ticket there, and try again"),
        FULL,
        MISSING("condor_submit"),
    )  # fmt: skip
    unclear = re.compile(r"Failed to end (?:transaction|submit)|failed to (?:read|receive)|[Tt]imed? ?out|Connection (?:closed|reset)|SetAttribute failed")
    job = re.compile(r"[0-9]+\.[0-9]+\Z")

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        options = wanted.options
        seconds = -(-wanted.walltime // 60) * 60
        carries = wanted.program is not None
        again = 2 if carries else 0
        lines = [
            f'+IcpPilot = "{wanted.name}"',
            f"batch_name = {wanted.name}",
            # Parsl's TRUE would keep every ended job in the queue
            "leave_in_queue = False",
            # evicted, it would start again: it matches once only, and leaves; where files travel it may, to bring back what it had done
            f"periodic_remove = (NumJobStarts > {again} && JobStatus == 1) || (NumJobStarts > 0 && JobStatus == 5)"
            f" || (JobStatus == 2 && time() - EnteredCurrentStatus > {seconds})",
            "max_retries = 0",
            "want_graceful_removal = True",
            f"job_max_vacate_time = {_PACKS if carries else _VACATE}",
            "kill_sig = SIGTERM",
        ]
        if carries:
            lines += [
                "should_transfer_files = YES",
                f"transfer_input_files = {wanted.folder}/batch.sh, {wanted.folder}/pilot.sh, {wanted.folder}/bag, {wanted.program}",
                "when_to_transfer_output = ON_EXIT_OR_EVICT",
                "transfer_output_files = back",
            ]
        else:
            # what the pilot leaves lies in its spool
            lines += ["when_to_transfer_output = ON_EXIT", 'transfer_output_files = ""']
        if wanted.memory:
            lines.append(f"request_memory = {mib(wanted.memory)}")
        if wanted.disk:
            lines.append(f"request_disk = {-(-wanted.disk // 1024)}")
        if wanted.gpus:
            lines.append(f"request_gpus = {wanted.gpus}")
        group = options.get("accounting_group", wanted.account)
        if group is not None:
            lines.append(f"accounting_group = {group}")
        if "priority" in options:
            lines.append(f"priority = {options['priority']}")
        if options.get("nice_user"):
            lines.append("nice_user = True")
        once = "True" if carries else "(NumJobStarts =?= undefined || NumJobStarts == 0)"
        if options.get("exclusive"):
            once += " && (TARGET.Cpus == TARGET.TotalCpus)"
        arguments = {**self.base(wanted), "cores_per_slot": wanted.cpus, "project": f'"{wanted.account or ""}"'}
        arguments["scheduler_options"] = self.lines(wanted, *lines)
        arguments["requirements"] = once if wanted.constraint is None else f"{once} && ({wanted.constraint})"
        # HTCondor would bring what is written to its own files when the job ends, and never if it was removed
        if not carries:
            arguments["worker_init"] = f"exec > {wanted.folder}/stdout 2> {wanted.folder}/stderr"
        return arguments

    def pilot(self, wanted: Wanted) -> str:
        return super().pilot(wanted) if wanted.program is None else "exec /bin/sh pilot.sh"

    def text(self, wanted: Wanted, text: str) -> str:
        """What is said before the pilot's folder can be written goes beside what the pilot says."""
        if wanted.program is not None:
            return text
        return re.sub(r"^((?:output|error) .*/)std(out|err)$", r"\1condor.\2", text, flags=re.MULTILINE)

    def cancel(self, words: list[str]) -> list[str]:
        """Parsl's second command takes a job out of the queue whose processes still live: one is enough."""
        first: list[str] = []
        for one in words:
            first.append(one.rstrip(";"))
            if one.endswith(";"):
                break
        return first

    def cancel_name(self, name: str) -> list[str]:
        return ["condor_rm", "-constraint", f'IcpPilot =?= "{name}"']

