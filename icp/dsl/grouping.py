"""``group_by``: the text that jobs of one group have in common (hides that it is an expression)."""

from __future__ import annotations

from collections.abc import Iterator

from icp.dsl.expressions import Compiler, Place
from icp.dsl.values import JobContext, Scope, show

__all__ = ["GroupBy"]


class GroupBy:
    """The ``group_by`` of a final task, or of jobs that are made from another dataset's outputs, compiled once."""

    def __init__(self, text: str, compiler: Compiler, owner: str) -> None:
        """``owner``: the task's name. BadExpression."""
        self.owner = owner
        self._compiled = compiler.compile(text, Place(owner, "group_by"))

    def key(self, job: JobContext) -> str:
        """What it gives for this (ordinary) job. BadExpression."""
        return show(self._compiled.run(Scope(job, self.owner)), self._compiled.text)

    def unknown(self, columns: frozenset[str]) -> Iterator[str]:
        """What it asks that no job knows when it is grouped, with the reason."""
        for kind, name in sorted(self._compiled.uses):
            if kind in ("system", "attr"):
                yield f"${kind}({name}) has a value only in a command"
            elif kind == "args" and name in ("iter", "subrun", "group") and name not in columns:
                yield f"$args({name}) has no value here"
