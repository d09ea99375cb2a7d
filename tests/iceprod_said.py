"""What IceProd itself makes of a text, and converted files as this version of icp takes them (stands for IceProd in tests)."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import sys
from typing import Any

from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.foreign.toml_text import key, value
from icp.dsl.kinds import Later
from icp.dsl.schema import MODULE, OUTPUT, TASK_KEYS, TOP
from icp.dsl.steering import parse
from icp.model.definition import Steering

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ICEPROD = importlib.util.find_spec("iceprod") is not None
WITHOUT = "IceProd is not installed here: pip install --no-deps iceprod (its recorded answers are tested in any case)"


def iceprod_says(text: Any, config: dict[str, Any], parameters: dict[str, Any] | None = None) -> Any:
    """``text`` as IceProd 3 parses it for a task of this configuration (its environment's variables left alone)."""
    from iceprod.core.parser import ExpParser  # type: ignore[import-not-found, import-untyped, unused-ignore]

    if isinstance(text, list):
        return [iceprod_says(one, config, parameters) for one in text]
    if isinstance(text, dict):
        return {name: iceprod_says(one, config, parameters) for name, one in text.items()}
    if not isinstance(text, str):
        return text
    env = {"parameters": dict(parameters or {}), "environment": {"OS_ARCH": "$OS_ARCH"}}
    for _ in range(20):
        said = ExpParser().parse(text, config, env)
        if said == text or not isinstance(said, str):
            return said
        text = said
    return text


def iceprod_schema() -> Any:
    """IceProd 3's own schema of configurations."""
    return json.loads((importlib.resources.files("iceprod.core") / "data" / "dataset.schema.json").read_text())


def accepted(text: str) -> tuple[str, list[str]]:
    """The converted text without what this version cannot do yet, and what that was."""
    data = tomllib.loads(text)
    left: list[str] = []
    if isinstance(TOP.keys["software"].kind, Later):
        if data.pop("software", None):
            left.append("software")
        for task in data.get("task", {}).values():
            for one in [task, *task.get("tray", ())]:
                one.pop("software", None)
    output = next(kind for kind in OUTPUT.kinds if hasattr(kind, "keys"))
    by_url = "url" in output.keys
    for task in data.get("task", {}).values():
        inputs = [one for one in task.get("inputs", ()) if isinstance(one, str)]
        if len(inputs) < len(task.get("inputs", ())) and not _takes_tables():
            task["inputs"] = inputs
            left.append("inputs by URL")
        for one in task.get("outputs", ()):
            if not by_url and one.pop("url", None):
                left.append("outputs by URL")
        for tray in task.get("tray", ()):
            for module in tray["module"]:
                if "python" in module and isinstance(MODULE.keys["python"].kind, Later):
                    left.append("Python modules")
                    words = [module.pop("python"), module.pop("class")]
                    module.pop("params", None)
                    module["command"] = ["python", *words]
    if not left:
        return text, left
    return "".join(f"{key(name)} = {_flat(one)}\n" for name, one in data.items()), sorted(set(left))


def _takes_tables() -> bool:
    kind = TASK_KEYS["inputs"].kind
    return hasattr(getattr(kind, "item", None), "kinds")


def _flat(given: Any) -> str:
    if isinstance(given, dict):
        return "{ " + ", ".join(f"{key(name)} = {_flat(one)}" for name, one in given.items()) + " }"
    if isinstance(given, list):
        return "[" + ", ".join(map(_flat, given)) + "]"
    return value(given)


def argv(steering: Steering, task: str, job: int = 0) -> list[list[Any]]:
    """What a job runs, as ``icp expand`` shows it."""
    about = next(one for one in steering.tasks if one.name == task)
    context = JobContext(steering.name, steering.seed or 0, job, steering.jobs.count, steering.jobs.row(job))
    return [step["argv"] for step in Renderer(steering, about).render(context, SiteContext("site", {}, {"gpu_number": 1})).steps]


def steering_of(text: str) -> Steering:
    """The converted file, without what this version cannot do yet. BadInput."""
    return parse(accepted(text)[0], "converted.toml")
