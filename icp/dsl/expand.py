"""Definition + job -> rendered task, pure: what a card says to run (hides that anything was an expression)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.command import compile_module
from icp.dsl.environments import Environments
from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.grouping import GroupBy
from icp.dsl.names import unsafe
from icp.dsl.requirements import compile_requirement
from icp.dsl.syntax import BadExpression
from icp.dsl.units import duration, size
from icp.dsl.urls import Fetches, output_url
from icp.dsl.values import JobContext, Scope, SiteContext, show
from icp.errors import BadInput
from icp.model.definition import Quantity, Steering, TaskDef
from icp.model.need import Need

__all__ = ["CannotRender", "JobContext", "Rendered", "Renderer", "SiteContext", "quantity_of"]

MAX_ITERATIONS = 10_000
_MAX_KEPT = 10_000
_GROWTH = 1.5


class CannotRender(BadInput):
    """An expression has no value for this job; the message names the job, the task, the expression and the reason."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a card holds of a task: ``steps``, ``out`` and the ``software`` of the steps by name, plain data as the card's format has them."""

    steps: list[dict[str, Any]]
    out: list[dict[str, Any]]
    fetch: list[dict[str, Any]] = field(default_factory=list)
    """Its inputs by URL, as ``in`` of a card has them."""
    software: dict[str, Any] = field(default_factory=dict)

    @property
    def environments(self) -> dict[str, Any]:
        """The card's key for its software, where it has some."""
        return {"software": self.software} if self.software else {}


class Renderer:
    """One task definition, compiled once; every method is fast, pure and gives the same for the same arguments."""

    def __init__(self, steering: Steering, task: TaskDef, compiler: Compiler | None = None) -> None:
        """BadInput when an expression cannot be compiled (validation finds these, with their lines)."""
        self.task = task
        source = steering.jobs
        columns = [name for name, _ in source.axes] + list(source.columns)
        compiler = compiler or Compiler(steering.variables, columns)
        name = task.name
        resources = task.resources
        try:
            self._quantities = tuple(
                _quantity(kind, getattr(resources, kind), compiler, Place(name, f"resources.{kind}"))
                for kind in ("cpus", "memory", "disk", "gpus", "time")
            )
            self._requirement = compile_requirement(task.requirements, compiler, Place(name, "requirements"))
            self._outputs = tuple(
                (compiler.compile(output.name, Place(name, f"outputs.{index}")), output.optional, output.glob)
                for index, output in enumerate(task.outputs)
            )
            self._fetches = Fetches(task, compiler)
            self._stored = tuple(
                compiler.compile(output.url, Place(name, f"outputs.{index}.url")) if output.url else None
                for index, output in enumerate(task.outputs)
            )
            self._group = GroupBy(task.group_by, compiler, name) if task.group_by is not None else None
            self._trays = tuple(
                (
                    compiler.compile(str(tray.iterations), Place(name, f"tray.{index}.iterations")),
                    tray.software or task.software,
                    tuple(
                        (
                            "argv" if module.python is None else "python",
                            compile_module(module, compiler, name, f"tray.{index}.module.{number}"),
                        )
                        for number, module in enumerate(tray.modules)
                    ),
                )
                for index, tray in enumerate(task.trays)
            )
            self._software = Environments(steering, [software for _, software, _ in self._trays], compiler, name)
        except BadExpression as error:
            raise BadInput(f"Task {name}: {error}.") from None
        read = {(ref.task, ref.output) for other in steering.all_tasks for ref in other.inputs}
        # Stored under its URL only: nobody here reads it, or has it brought home.
        self._away = [bool(one.url) and not one.keep and (name, one.name) not in read for one in task.outputs]
        self._needs: dict[Any, Need] = {}
        constant = all(output[0].constant for output in self._outputs)
        self._same_outputs = self._render_outputs(Scope(_NOBODY, name)) if constant else None

    def need(self, job: JobContext, tier: int = 0) -> Need:
        """Resources and requirements of this job; memory, disk and time grow by half with each ``tier``."""
        scope = Scope(job, self.task.name)
        try:
            cpus, memory, disk, gpus, time = [quantity(scope) for quantity in self._quantities]
            clauses = self._requirement.reduce(scope, gpus > 0)
        except BadExpression as error:
            raise self._cannot(job, error) from None
        key = (cpus, memory, disk, gpus, time, clauses, tier, tuple([type(t[2]) for clause in clauses for t in clause]))
        need = self._needs.get(key)
        if need is None:
            if len(self._needs) >= _MAX_KEPT:
                self._needs.clear()
            growth = _GROWTH**tier
            need = Need(
                clauses, cpus, math.ceil(memory * growth), math.ceil(disk * growth), gpus, math.ceil(time * growth), self._software.marks
            )
            self._needs[key] = need
        return need

    def outputs(self, job: JobContext) -> tuple[tuple[str, bool, bool], ...]:
        """(name, optional, glob) of each declared output, in the order of the definition."""
        if self._same_outputs is not None:
            return self._same_outputs
        try:
            return self._render_outputs(Scope(job, self.task.name))
        except BadExpression as error:
            raise self._cannot(job, error) from None

    def group(self, job: JobContext) -> str:
        """What ``group_by`` gives for this (ordinary) job; empty when the task has none."""
        if self._group is None:
            return ""
        try:
            return self._group.key(job)
        except BadExpression as error:
            raise self._cannot(job, error) from None

    def render(self, job: JobContext, site: SiteContext) -> Rendered:
        """What runs for this job at this site, and what it must leave behind."""
        scope = Scope(job, self.task.name, site)
        steps = []
        try:
            for tray, (iterations, software, modules) in enumerate(self._trays):
                for iteration in range(1) if iterations.text == "1" else range(_whole(iterations, scope)):
                    scope.iteration = iteration
                    for module, (kind, what) in enumerate(modules):
                        steps.append(
                            {
                                "tray": tray,
                                "iter": iteration,
                                "module": module,
                                "software": software,
                                "env": {},
                                kind: what.run(scope),
                            }
                        )
            scope.iteration = 0
            fetch = self._fetches.render(scope)
            urls = [output_url(one, scope) for one in self._stored]
            environments = self._software.render(scope)
        except BadExpression as error:
            raise self._cannot(job, error) from None
        out: list[dict[str, Any]] = [{"name": name, "optional": optional} for name, optional, _glob in self.outputs(job)]
        for one, url, away in zip(out, urls, self._away, strict=True):
            if url is not None:
                one.update({"url": url, "away": True} if away else {"url": url})
        return Rendered(steps, out, fetch, environments)

    def _render_outputs(self, scope: Scope) -> tuple[tuple[str, bool, bool], ...]:
        rendered = []
        for name, optional, glob in self._outputs:
            text = show(name.run(scope), name.text)
            if why := unsafe(text):
                raise BadExpression(name.text, f"the output's name {text[:80]!r} {why}")
            rendered.append((text, optional, glob))
        if len({name for name, _, _ in rendered}) < len(rendered):
            raise BadExpression(", ".join(output[0].text for output in self._outputs), "two outputs have one name")
        return tuple(rendered)

    def _cannot(self, job: JobContext, error: BadExpression) -> CannotRender:
        whose = f"job {job.job}" if job.job >= 0 else f"group {job.group or -1 - job.job}"
        return CannotRender(f"Dataset {job.dataset}, {whose}, task {self.task.name}: {error}.")


_NOBODY = JobContext("", 0, 0, 0, {})


def _quantity(kind: str, value: Quantity, compiler: Compiler, place: Place) -> Callable[[Any], int]:
    if not isinstance(value, str):
        number = math.ceil(value)
        return lambda scope: number
    compiled = compiler.compile(value, place)
    if compiled.constant:
        fixed = quantity_of(kind, compiled.run(None), value)
        return lambda scope: fixed
    run = compiled.run
    return lambda scope: quantity_of(kind, run(scope), value)


def quantity_of(kind: str, value: Any, expression: str) -> int:
    """Pieces, bytes or seconds of a resource from what its expression gave; BadExpression when it is none."""
    try:
        if kind in ("memory", "disk"):
            return size(_number(value))
        if kind == "time":
            return duration(_number(value))
        count = float(value) if isinstance(value, str) else value
        least = 0 if kind == "gpus" else 1
        if isinstance(count, bool) or not isinstance(count, int | float) or not least <= count <= 10**6:
            raise ValueError(f"a number of {kind}, at least {least}")
        return math.ceil(count)
    except (ValueError, OverflowError) as error:
        raise BadExpression(expression, f"{show(value, expression)[:40]!r} is not {error}") from None


def _number(value: Any) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number with a unit")  # noqa: TRY004 - what a person wrote is wrong, not the program
    return value


def _whole(iterations: Compiled, scope: Scope) -> int:
    value = iterations.run(scope)
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = -1
    if not 0 <= count <= MAX_ITERATIONS:
        raise BadExpression(iterations.text, f"{value!r} is not a number of iterations from 0 to {MAX_ITERATIONS}")
    return count
