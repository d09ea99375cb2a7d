"""What IceProd itself makes of a text, and what icp makes of a converted file (stands for IceProd in tests)."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
from typing import Any

from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.steering import parse
from icp.model.definition import Steering

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


def argv(steering: Steering, task: str, job: int = 0) -> list[list[Any]]:
    """What a job runs, as ``icp expand`` shows it."""
    about = next(one for one in steering.tasks if one.name == task)
    context = JobContext(steering.name, steering.seed or 0, job, steering.jobs.count, steering.jobs.row(job))
    return [step["argv"] for step in Renderer(steering, about).render(context, SiteContext("site", {}, {"gpu_number": 1})).steps]


def steering_of(text: str) -> Steering:
    """The converted file, without what this version cannot do yet. BadInput."""
    return parse(text, "converted.toml")
