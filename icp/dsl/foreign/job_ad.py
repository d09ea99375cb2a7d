"""A job's ClassAd, as condor_q prints it in JSON -> what its task runs (hides the attributes' names)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from icp.dsl.foreign.condor_keys import FLAVOURS
from icp.dsl.foreign.condor_submit import in_place, standing
from icp.dsl.foreign.condor_text import Unclear
from icp.dsl.foreign.condor_words import new_words, old_words, pairs
from icp.dsl.foreign.described import Job, Out

__all__ = ["ATTRIBUTES", "AdJob", "destination", "read_ad", "refusal"]

ATTRIBUTES = (
    "ClusterId", "ProcId", "QDate", "JobStatus", "HoldReason", "JobUniverse", "Cmd", "Args", "Arguments", "Env", "Environment", "Iwd", "In", "Out", "Err",
    "TransferInput", "TransferOutput", "TransferOutputRemaps", "TransferExecutable", "ShouldTransferFiles", "RequestCpus", "RequestMemory",
    "RequestDisk", "RequestGPUs", "JobMaxRetries", "JobPrio", "AllowedExecuteDuration", "AllowedJobDuration", "MaxRuntime", "MaxWallTimeMins",
    "JobFlavour", "MinHosts", "MaxHosts", "WantDocker", "DockerImage", "ContainerImage", "SingularityImage", "IcpOverflow", "IcpRequirements",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdJob:
    """A job, and the files at the pool (absolute) that it must be given."""

    job: Job
    files: tuple[str, ...]
    max_tries: int
    requirements: str


def refusal(ad: Mapping[str, Any]) -> str | None:
    """Why a job cannot run anywhere but in its pool, or None."""
    if ad.get("JobUniverse") != 5:
        return "only the vanilla universe runs elsewhere"
    if any(ad.get(key) for key in ("WantDocker", "DockerImage", "ContainerImage", "SingularityImage")):
        return "it wants a container"
    if _number(ad, "MaxHosts", 1) > 1:
        return "it wants more than one machine"
    if str(ad.get("ShouldTransferFiles", "")).upper() == "NO":
        return "its files are not transferred: should_transfer_files = NO"
    if re.search(r"[A-Za-z][A-Za-z0-9+.-]*://", f"{ad.get('TransferInput', '')} {ad.get('TransferOutputRemaps', '')}"):
        return "it transfers URLs"
    if not str(ad.get("Cmd") or "") or not str(ad.get("Iwd") or "").startswith("/"):
        return "its ad lacks Cmd or Iwd"
    return None


def read_ad(ad: Mapping[str, Any]) -> AdJob:
    """ValueError: a sentence."""
    if why := refusal(ad):
        raise Unclear(why)
    iwd, cmd = str(ad["Iwd"]), str(ad["Cmd"])
    words = new_words(str(ad["Arguments"])) if ad.get("Arguments") else old_words(str(ad.get("Args") or ""))
    env = pairs(new_words(str(ad["Environment"]))) if ad.get("Environment") else pairs([one for one in str(ad.get("Env") or "").split(";") if one.strip()])
    files: list[str] = []
    links: list[tuple[str, str]] = []

    def ship(path: str) -> str:
        full = posixpath.normpath(posixpath.join(iwd, path))
        files.append(full)
        return full.lstrip("/")

    for path in _list(ad, "TransferInput"):
        packed = ship(path)
        links.append((packed, packed + "/" if path.endswith("/") else posixpath.basename(packed)))
    stdin = str(ad.get("In") or "/dev/null")
    job = Job((cmd, *words), links=tuple(links), env=tuple(env), stdin="" if stdin == "/dev/null" else ship(stdin),
              exports=('export _CONDOR_SCRATCH_DIR="$PWD" _CONDOR_JOB_IWD="$PWD"',), resources=_resources(ad))  # fmt: skip
    if ad.get("TransferExecutable") is not False and not in_place(cmd):
        name = posixpath.basename(cmd)
        job = replace(job, argv=(f"./{name}", *words), executable=(ship(cmd), name))
    stdout, stderr = (standing(str(ad.get(key) or "/dev/null")) for key in ("Out", "Err"))
    outputs = [Out(name) for name in dict.fromkeys((stdout, stderr)) if name != "/dev/null"]
    if ad.get("TransferOutput") is None:
        outputs.append(Out("*", glob=True, optional=True))
    outputs += [Out(one + "**", True, True) if one.endswith("/") else Out(one) for one in _list(ad, "TransferOutput")]
    job = replace(job, stdout=stdout, stderr=stderr, outputs=tuple(outputs))
    return AdJob(job, tuple(dict.fromkeys(files)), _number(ad, "JobMaxRetries", 0) + 1, str(ad.get("IcpRequirements") or ""))


def destination(ad: Mapping[str, Any], name: str) -> str:
    """Where HTCondor would have put this file of the job's directory: an absolute path at the pool."""
    iwd = str(ad["Iwd"])
    for key in ("Out", "Err"):
        path = str(ad.get(key) or "/dev/null")
        if path != "/dev/null" and standing(path) == name:
            return posixpath.normpath(posixpath.join(iwd, path))
    for one in str(ad.get("TransferOutputRemaps") or "").strip('"').split(";"):
        old, equals, new = (part.strip() for part in one.partition("="))
        if equals and old == name:
            return posixpath.normpath(posixpath.join(iwd, new))
    for one in _list(ad, "TransferOutput"):
        if one.endswith("/") and name.startswith(one):
            return posixpath.join(iwd, name[len(one) :])
        if one == name:
            return posixpath.join(iwd, posixpath.basename(name))
    return posixpath.join(iwd, name)


def _list(ad: Mapping[str, Any], key: str) -> list[str]:
    return [one.strip() for one in str(ad.get(key) or "").split(",") if one.strip()]


def _number(ad: Mapping[str, Any], key: str, default: int) -> int:
    """A whole number; expressions that only the pool can evaluate are the default."""
    value = ad.get(key)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _resources(ad: Mapping[str, Any]) -> dict[str, str]:
    found = {"cpus": str(max(1, _number(ad, "RequestCpus", 1))), "gpus": str(_number(ad, "RequestGPUs", 0))}
    memory, disk = _number(ad, "RequestMemory", 0), _number(ad, "RequestDisk", 0)
    found["memory"] = f"{memory} MiB" if memory > 0 else "2 GB"
    # without request_disk the figure is the size of the inputs
    found["disk"] = f"{max(disk, 1_000_000)} KiB"
    seconds = _number(ad, "AllowedExecuteDuration", 0) or _number(ad, "AllowedJobDuration", 0) or _number(ad, "MaxRuntime", 0)
    seconds = seconds or 60 * _number(ad, "MaxWallTimeMins", 0)
    found["time"] = f"{seconds} s" if seconds > 0 else FLAVOURS.get(str(ad.get("JobFlavour", "")).lower(), "1 h")
    return found
