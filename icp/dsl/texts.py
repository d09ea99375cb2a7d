"""Every expression of a dataset is compiled, and tried for its first and last job (hides what each place can know)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.command import compile_module, compile_value
from icp.dsl.environments import texts_of
from icp.dsl.expand import quantity_of
from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.locator import KeyPath
from icp.dsl.modules import Declarations, check_values
from icp.dsl.names import unsafe
from icp.dsl.requirements import compile_requirement
from icp.dsl.shell import lex
from icp.dsl.syntax import START, BadExpression, strange_calls
from icp.dsl.tasks import Draft
from icp.dsl.urls import digest_of, good_url, size_of
from icp.dsl.values import NODE_NAMES, JobContext, Marked, Node, Scope, SiteContext, show
from icp.model.definition import JobSource, Module, Software, UrlInput

__all__ = ["check_texts"]

Uses = Iterable[tuple[str, str]]
_SEED_BEFORE = re.compile(r"seed[\w-]*['\"]?[=:,\s]+['\"]?\Z", re.IGNORECASE)
_NOWHERE = SiteContext("here", {}, {})


def check_texts(
    name: str,
    jobs: JobSource,
    variables: Mapping[str, Any],
    drafts: list[Draft],
    software: Mapping[str, Software],
    mistakes: Mistakes,
    declared: Declarations | None = None,
) -> None:
    """Reports every expression that cannot be understood, asks what its place does not know, or has no value."""
    columns = frozenset([axis for axis, _ in jobs.axes] + list(jobs.columns))
    compiler = Compiler(variables, columns)
    _check_variables(variables, compiler, mistakes)
    trials = [JobContext(name, 0, job, jobs.count, jobs.sample(job)) for job in sorted({0, max(0, jobs.count - 1)})]
    for draft in drafts:
        _Texts(draft, compiler, columns, trials, mistakes, declared or {}, follow=jobs.follow).check()
    for key, one in software.items():
        _check_software(key, one, compiler, mistakes)


def _check_software(name: str, one: Software, compiler: Compiler, mistakes: Mistakes) -> None:
    """Texts of an environment: the same for all jobs, so that a node has few of them."""
    for key, text in texts_of(one):
        path = ("software", name, *key)
        _strange(text, path, mistakes, certain=True)
        try:
            uses = compiler.compile(text, Place("", ".".join(map(str, path)))).uses
        except BadExpression as error:
            mistakes.expression(path, error)
            continue
        for kind, asked in sorted(uses):
            if kind == "args" or (kind == "system" and asked in NODE_NAMES):
                mistakes.add(path, f"${kind}({asked}) is not known to an environment", "$steering, $system of the site, or $attr")


def _check_variables(variables: Mapping[str, Any], compiler: Compiler, mistakes: Mistakes) -> None:
    for key, value in variables.items():
        path = ("steering", key)
        try:
            uses = compiler.variable(key, f"$steering({key})").uses
        except BadExpression as error:
            mistakes.expression(path, error)
            continue
        if "seed" in key.lower() and ("args", "dataset") in uses:
            _warn_seed(path, mistakes)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _strange(text, path, mistakes, certain=False)


def _warn_seed(path: KeyPath, mistakes: Mistakes) -> None:
    mistakes.warn(
        path,
        "a seed made of the dataset overlaps with those of other datasets and repeats in other ledgers; "
        "use $args(seed), 63 bits of their own for each dataset, job and task",
    )


def _strange(text: str, path: KeyPath, mistakes: Mistakes, certain: bool) -> None:
    for word, meant in strange_calls(text):
        if certain or meant:
            mistakes.add(path, f"${word}(...) is no expression", "", f"${meant}(...)" if meant else "")


class _Texts:
    """The texts of one task."""

    def __init__(
        self,
        draft: Draft,
        compiler: Compiler,
        columns: frozenset[str],
        trials: list[JobContext],
        mistakes: Mistakes,
        declared: Declarations,
        *,
        follow: bool,
    ) -> None:
        self.task, self.follow = draft.task, follow
        self.path = draft.path
        self.outputs_at = draft.outputs_at
        self.fetches_at = draft.fetches_at
        self.compiler = compiler
        self.columns = columns
        self.mistakes = mistakes
        self.declared = declared
        self.jobs = trials
        self.own = trials
        if draft.task.final:
            self.own = [JobContext(job.dataset, 0, -1, job.jobs, {}, "0") for job in trials[:1]]

    def check(self) -> None:
        task = self.task
        for kind in ("cpus", "memory", "disk", "gpus", "time"):
            value = getattr(task.resources, kind)
            if isinstance(value, str):
                self._quantity(kind, value)
        for index, (at, output) in enumerate(zip(self.outputs_at, task.outputs, strict=True)):
            compiled = self._compile(output.name, ("outputs", at), f"outputs.{index}")
            if compiled is not None and START.search(output.name):
                self._try(compiled, ("outputs", at), self.own, _safe)
            if output.url:
                self._url(output.url, ("outputs", at, "url"), f"outputs.{index}.url")
        for index, (at, one) in enumerate(zip(self.fetches_at, task.fetches, strict=True)):
            self._fetch(one, ("inputs", at), f"fetches.{index}")
        if task.group_by is not None and (
            group := self._compile(task.group_by, ("group_by",), "group_by", of_job=True)
        ):
            self._try(group, ("group_by",), self.jobs, show)
        for index, tray in enumerate(task.trays):
            if isinstance(tray.iterations, str):
                self._compile(tray.iterations, ("tray", index, "iterations"), f"tray.{index}.iterations")
            for number in range(len(tray.modules)):
                self._module(index, number)
        self._requirements()

    def _fetch(self, one: UrlInput, key: KeyPath, field: str) -> None:
        self._url(one.url, (*key, "url"), f"{field}.url")
        looks: dict[str, Callable[[Any, str], Any]] = {
            "name": _safe, "sha256": partial(digest_of, "sha256"), "md5": partial(digest_of, "md5"), "size": size_of,
        }  # fmt: skip
        for name, look in looks.items():
            text = getattr(one, name)
            if START.search(text) and (compiled := self._compile(text, (*key, name), f"{field}.{name}")):
                self._try(compiled, (*key, name), self.own, look)

    def _url(self, text: str, key: KeyPath, field: str) -> None:
        """A URL may ask for what the site knows, and not for what only the node does."""
        path = (*self.path, *key)
        compiled, good = self._parsed(text, path, field, of_job=False)
        if compiled is None:
            return
        for kind, name in sorted(compiled.uses):
            if kind == "system" and name in NODE_NAMES:
                self.mistakes.add(path, f"$system({name}) has a value only in a command")
                good = False
        if good and START.search(text) and not any(kind in ("attr", "system") for kind, _ in compiled.uses):
            self._try(compiled, key, self.own, good_url)

    def _quantity(self, kind: str, value: str) -> None:
        compiled = self._compile(value, ("resources", kind), f"resources.{kind}")
        if compiled is not None:
            self._try(compiled, ("resources", kind), self.own, lambda got, text: quantity_of(kind, got, text))

    def _parsed(self, text: str, path: KeyPath, field: str, of_job: bool) -> tuple[Compiled | None, bool]:
        """A text outside of commands, and whether all that it asks of a job is known; None where it cannot be understood."""
        _strange(text, path, self.mistakes, certain=True)
        try:
            compiled = self.compiler.compile(text, Place(self.task.name, field))
        except BadExpression as error:
            self.mistakes.expression(path, error)
            return None, False
        return compiled, self._arguments(compiled.uses, path, of_job, in_command=False)

    def _compile(self, text: str, key: KeyPath, field: str, of_job: bool = False) -> Compiled | None:
        """A text that is the same at every site."""
        path = (*self.path, *key)
        compiled, good = self._parsed(text, path, field, of_job)
        if compiled is None:
            return None
        for kind, name in sorted(compiled.uses):
            if kind in ("system", "attr"):
                where = "in a command" if kind == "system" else "in a command and in requirements"
                self.mistakes.add(path, f"${kind}({name}) has a value only {where}")
                good = False
        return compiled if good else None

    def _arguments(self, uses: Uses, path: KeyPath, of_job: bool, in_command: bool) -> bool:
        """Whether ``$args`` knows here what is asked of it; ``of_job``: evaluated for an ordinary job."""
        good = True
        for name in sorted(name for kind, name in uses if kind == "args"):
            why = ""
            own = name in self.columns
            if self.task.final and not of_job and (own or name in ("job", "run")):
                why = "a final task is of no single job; it has $args(group)"
            elif name == "group" and (of_job or not self.task.final):
                why = "only a final task has a group"
            elif name == "jobs" and self.follow and not self.task.final:
                why = "nobody knows how many there will be: jobs are added as outputs come"
            elif not own and name in ("iter", "subrun") and not in_command:
                why = "it has a value only in a command"
            if why:
                self.mistakes.add(path, f"$args({name}): {why}")
                good = False
        return good

    def _module(self, tray: int, number: int) -> None:
        module = self.task.trays[tray].modules[number]
        path: KeyPath = (*self.path, "command")
        if not self.mistakes.knows(path):
            path = (*self.path, "tray", tray, "module", number, "command")
        if module.python is not None:
            self._python(module, (*path[:-1], "params"), tray, number)
            return
        self._look_for_strange(module.command, path)
        try:
            compiled = compile_module(module, self.compiler, self.task.name, f"tray.{tray}.module.{number}")
        except BadExpression as error:
            self.mistakes.expression(path, error)
            return
        self._seeds(module.command, path)
        good = self._arguments(compiled.uses, path, of_job=False, in_command=True)
        of_site = any(kind == "attr" or (kind == "system" and name not in NODE_NAMES) for kind, name in compiled.uses)
        if good and not of_site:
            self._try(compiled, path[len(self.path) :], self.own, lambda got, text: got)

    def _python(self, module: Module, path: KeyPath, tray: int, number: int) -> None:
        """Each parameter on its own, so that a mistake has the line of its key; then all against the class."""
        cls = self.declared.get((self.task.name, tray, number))
        given: dict[str, list[Any]] = {}
        for name, value in module.params.items():
            for text in _texts_in(value):
                _strange(text, (*path, name), self.mistakes, certain=False)
            try:
                compiled = compile_value(value, self.compiler, self.task.name, f"tray.{tray}.module.{number}.params.{name}")
            except BadExpression as error:
                self.mistakes.expression((*path, name), error)
                continue
            if "seed" in name.lower() and ("args", "dataset") in compiled.uses:
                _warn_seed((*path, name), self.mistakes)
            good = self._arguments(compiled.uses, (*path, name), of_job=False, in_command=True)
            of_site = any(kind == "attr" or (kind == "system" and key not in NODE_NAMES) for kind, key in compiled.uses)
            if good and not of_site:
                values: list[Any] = []
                self._try(compiled, (*path, name)[len(self.path) :], self.own, lambda got, text, values=values: values.append(got))  # type: ignore[misc]
                given[name] = [None if isinstance(value, Node | Marked) else value for value in values]
        if cls is not None:
            for name, message, expected, meant in check_values(cls, module.params, given):
                self.mistakes.add((*path, name) if name else path, message, expected, meant)

    def _look_for_strange(self, command: str | tuple[str, ...], path: KeyPath) -> None:
        if isinstance(command, tuple):
            for part in command:
                _strange(part, path, self.mistakes, certain=False)
            return
        for word, meant in strange_calls(command):
            if meant:
                self.mistakes.add(path, f"${word}(...) is no expression", "", f"${meant}(...)")

    def _seeds(self, command: str | tuple[str, ...], path: KeyPath) -> None:
        """Warns of ``--seed $eval($args(dataset) * 1000 + ...)``."""
        for part in [command] if isinstance(command, str) else [" ".join(command)]:
            try:
                pieces = lex(part)
            except BadExpression:
                continue
            for before, piece in pairwise(pieces):
                if isinstance(before, str) and not isinstance(piece, str) and _SEED_BEFORE.search(before):
                    uses = self.compiler.call(piece.call, Place(self.task.name, "")).uses
                    if ("args", "dataset") in uses:
                        _warn_seed(path, self.mistakes)

    def _requirements(self) -> None:
        path = (*self.path, "requirements")
        before = len(self.mistakes)
        _strange(self.task.requirements, path, self.mistakes, certain=True)
        if len(self.mistakes) > before:
            return
        try:
            requirement = compile_requirement(
                self.task.requirements, self.compiler, Place(self.task.name, "requirements")
            )
        except BadExpression as error:
            self.mistakes.expression(path, error)
            return
        if self._arguments(requirement.uses, path, of_job=False, in_command=False):
            for job in self.own:
                try:
                    requirement.reduce(Scope(job, self.task.name), False)
                except BadExpression as error:
                    self.mistakes.expression(path, error)
                    return

    def _try(
        self, compiled: Compiled, key: KeyPath, jobs: Iterable[JobContext], look: Callable[[Any, str], Any]
    ) -> None:
        for job in jobs:
            try:
                look(compiled.run(Scope(job, self.task.name, _NOWHERE)), compiled.text)
            except BadExpression as error:
                whose = "" if compiled.constant or job.job < 0 else f" (job {job.job})"
                path = (*self.path, *key)
                self.mistakes.expression(path, BadExpression(error.expression, error.reason + whose, error.meant))
                return


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(member)


def _safe(value: Any, expression: str) -> None:
    name = show(value, expression)
    if why := unsafe(name):
        raise BadExpression(expression, f"the output's name {name[:80]!r} {why}")
