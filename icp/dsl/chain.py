"""``jobs.from``: the outputs of another dataset -> JobSource (hides what of it is known before it is submitted)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk, Found
from icp.dsl.expressions import Compiler
from icp.dsl.grouping import GroupBy
from icp.dsl.locator import KeyPath
from icp.dsl.syntax import BadExpression
from icp.errors import IcpError
from icp.model.chains import ChainOutput, columns, gather, row
from icp.model.definition import JobSource

__all__ = ["build_chain"]

_ONE = JobSource("count", 1)
_AT: KeyPath = ("jobs", "from")
_OUTPUT = re.compile(r"dataset:(?P<dataset>[^/:\s]+)/(?P<task>[^/:\s]+):(?P<output>\S.*)\Z")


def build_chain(value: Mapping[str, Any], mistakes: Mistakes, disk: Disk, variables: Mapping[str, Any]) -> JobSource:
    """The jobs of ``jobs.from`` and of what stands beside it; what is wrong becomes mistakes."""
    said = value["from"]
    match = _OUTPUT.match(said)
    if match is None:
        mistakes.add(_AT, f"{said[:80]!r} names no output of a dataset", "dataset:NAME/task:output")
        return _ONE
    group, group_by, follow = value.get("group"), value.get("group_by", ""), bool(value.get("follow"))
    grouped = group is not None or bool(group_by)
    names = columns(grouped=grouped, keyed=bool(group_by))
    key = "0" if group_by else None
    likely = ChainOutput(match["dataset"], 0, "000000", match["output"], "0" * 64, "/")
    example = row(match["task"], [likely], grouped=grouped, key=key)

    def made(rows: tuple[tuple[Any, ...], ...]) -> JobSource:
        return JobSource(
            "rows", len(rows), columns=names, rows=rows, source=said, group=group, group_by=group_by, follow=follow, example=() if rows else example
        )

    if disk.outputs is None:
        return made((example,))
    try:
        found = disk.outputs(match["dataset"], match["task"], match["output"], follow)
    except IcpError as error:
        mistakes.add(_AT, error.message)
        return made((example,))
    keys = _keys(found, group_by, variables, match["task"], mistakes)
    if keys is None:
        return made((example,))
    size = group if grouped else 1
    groups = gather({}, zip(keys, found.files, strict=True), size, over=found.over)
    if not groups and not follow:
        mistakes.add(_AT, f"{said} has no file", "an output that some job made")
    return made(tuple(row(match["task"], members, grouped=grouped, key=one if group_by else None) for one, members in groups))


def _keys(found: Found, group_by: str, variables: Mapping[str, Any], task: str, mistakes: Mistakes) -> list[str] | None:
    """The group of each file; None where ``group_by`` cannot be had."""
    if not group_by:
        return [""] * len(found.files)
    path: KeyPath = ("jobs", "group_by")
    try:
        rule = GroupBy(group_by, Compiler(variables, found.columns), task)
        wrong = list(rule.unknown(found.columns))
        for one in wrong:
            mistakes.add(path, one)
        if wrong:
            return None
        known: dict[int, str] = {}
        for file in found.files:
            if file.job not in known:
                known[file.job] = rule.key(found.context(file.job))
        return [known[file.job] for file in found.files]
    except BadExpression as error:
        mistakes.expression(path, error)
        return None
