"""What an IceProd task asks of a node, as resources and requirements (hides gigabytes, hours and batch options)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.expressions import Compiler, Place
from icp.dsl.foreign.classad import requirements as of_classad
from icp.dsl.foreign.condor_text import Unclear
from icp.dsl.foreign.condor_words import amount as of_condor
from icp.dsl.foreign.iceprod_names import Scope
from icp.dsl.requirements import compile_requirement
from icp.dsl.syntax import BadExpression

__all__ = ["Asked", "batch_options", "needs"]

_KINDS = {"cpu": ("cpus", 1), "memory": ("memory", 1000), "disk": ("disk", 1000), "gpu": ("gpus", 1), "time": ("time", 3600)}
"""IceProd's word: ours, and how many of our bare unit (MB, seconds) one of IceProd's is."""
_UNITS = {"memory": "GB", "disk": "GB", "time": "h"}
_DEFAULTS = {"cpu": 1, "memory": 1, "disk": 1, "time": 1}
_CONDOR = {"request_cpus": "cpus", "request_gpus": "gpus", "request_memory": "memory", "request_disk": "disk"}


@dataclass(slots=True)
class Asked:
    """What options for a batch system ask of a node, in our words."""

    resources: dict[str, Any] = field(default_factory=dict)
    clauses: list[str] = field(default_factory=list)


def needs(task: Mapping[str, Any], scope: Scope, version: float, shared: Asked) -> dict[str, Any]:
    """``resources`` and ``requirements`` of a task; ``shared`` is what all tasks ask."""
    said = task.get("requirements") or {}
    resources = dict(shared.resources)
    for word, (ours, factor) in _KINDS.items():
        given = said.get(word)
        if given is None and version >= 3:
            given = _DEFAULTS.get(word)
        if given not in (None, "", 0, []):
            amount = _amount(given, word, factor, scope)
            if amount is not None:
                resources[ours] = amount
    clauses = [_conditions(str(task["conditions"]), scope)] if task.get("conditions") else []
    systems = said.get("os") or []
    if systems:
        systems = [systems] if isinstance(systems, str) else systems
        clauses.append(" or ".join(f"$attr(OS) == {json.dumps(one)}" for one in systems))
        scope.note("CHECK", "os: sites must say it, [site.NAME.attributes] OS = ...")
    if said.get("site"):
        clauses.append(f"$attr(Site) == {json.dumps(str(said['site']))}")
        scope.note("CHECK", "site: sites must say it, [site.NAME.attributes] Site = ...")
    for name, value in said.items():
        if name not in _KINDS and name not in ("os", "site") and value not in (None, "", [], {}):
            scope.note("NOT CONVERTED", f"requirements.{name} = {json.dumps(value)}")
    own = batch_options(task.get("batchsys") or {}, scope)
    resources.update(own.resources)
    clauses += [*shared.clauses, *own.clauses]
    found: dict[str, Any] = {}
    if resources:
        found["resources"] = resources
    clauses = [clause for clause in clauses if clause]
    if clauses:
        found["requirements"] = clauses[0] if len(clauses) == 1 else " and ".join(f"({clause})" for clause in clauses)
    return found


def _amount(given: Any, word: str, factor: int, scope: Scope) -> Any:
    value = scope.value(str(given) if isinstance(given, str) else given)
    if isinstance(value, str) and "$" in value:
        inner = re.fullmatch(r"\$eval\((.*)\)", value, re.DOTALL)
        if factor == 1:
            return value
        return f"$eval({factor} * ({inner[1]}))" if inner and inner[1].count("(") == inner[1].count(")") else f"$eval({factor} * {value})"
    try:
        number = float(value)
    except (TypeError, ValueError):
        scope.note("NOT CONVERTED", f"requirements.{word} = {json.dumps(given)}")
        return None
    if factor == 1:
        return max(0 if word == "gpu" else 1, round(number))
    shown = f"{number:.6f}".rstrip("0").rstrip(".")
    return f"{shown} {_UNITS[word]}"


def _conditions(text: str, scope: Scope) -> str:
    """The requirements of a task of IceProd 1: attributes as ``$attr(x)``, or as a ClassAd has them."""
    if "$attr(" in text:
        return scope.text(text)
    try:
        return _classad(text)
    except Unclear as error:
        scope.note("NOT CONVERTED", f"requirements {text!r}: {error}")
        return ""


def _classad(text: str) -> str:
    said = of_classad(text)[0]
    try:
        compile_requirement(said, Compiler({}, ()), Place("", "requirements"))
    except BadExpression as error:
        raise Unclear(error.reason) from None
    return said


def batch_options(batchsys: Mapping[str, Any], scope: Scope) -> Asked:
    """HTCondor's requirements and requests have a counterpart; all others are marked."""
    asked = Asked()
    for system, options in batchsys.items():
        for name, value in (options or {}).items():
            _batch(str(system), str(name), value, asked, scope)
    return asked


def _batch(system: str, name: str, value: Any, asked: Asked, scope: Scope) -> None:
    text = str(value)
    if system.lower() in ("condor", "*", "all"):
        ours = _CONDOR.get(name.lower().lstrip("+"))
        try:
            if name.lower() == "requirements":
                asked.clauses.append(_classad(text))
                return
            if ours in ("cpus", "gpus") and text.isdigit():
                asked.resources[ours] = int(text)
                return
            if ours in ("memory", "disk"):
                size = of_condor(text, "M" if ours == "memory" else "K")
                if not float(size.split()[0]):
                    raise Unclear("it asks for nothing")
                asked.resources[ours] = size
                return
        except (Unclear, ValueError) as error:
            scope.note("NOT CONVERTED", f"batchsys.{system}.{name} = {json.dumps(value)}: {error}")
            return
    scope.note("NOT CONVERTED", f"batchsys.{system}.{name} = {json.dumps(value)}: batch options belong to a site ([site.NAME.pilot])")
