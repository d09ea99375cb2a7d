"""``jobs``, a number, scan, CSV file or list of files -> JobSource (hides where columns come from)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from icp.dsl.chain import build_chain
from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk
from icp.dsl.expressions import ARGS
from icp.dsl.locator import KeyPath
from icp.dsl.names import COLUMN
from icp.model.definition import JobSource

__all__ = ["build_jobs"]

MAX_JOBS = 1_000_000_000
_FREE = ("seed", "run", "subrun")
_ONE = JobSource("count", 1)
_AT: KeyPath = ("jobs",)
_KINDS = ("scan", "csv", "files", "from")


def build_jobs(value: Any, mistakes: Mistakes, disk: Disk | None, variables: Mapping[str, Any]) -> JobSource:
    """The jobs of a file whose ``jobs`` have passed the schema; what is wrong becomes mistakes."""
    if value is None:
        return _ONE
    if isinstance(value, int):
        return JobSource("count", value)
    given = [key for key in _KINDS if key in value]
    if len(given) != 1:
        mistakes.add(_AT, f"{len(given) or 'none'} of scan, csv, files and from are given", "one of them")
        return _ONE
    (kind,) = given
    for key in ("group", "group_by", "follow"):
        if key in value and kind != "from":
            mistakes.add((*_AT, key), f"jobs.{kind} makes a job of each", "it beside jobs.from")
    if kind == "scan":
        return _scan(value["scan"], mistakes)
    if disk is None:
        mistakes.add((*_AT, kind), "there is no folder to read it from")
        return _ONE
    if kind == "from":
        return build_chain(value, mistakes, disk, variables)
    return (_csv if kind == "csv" else _files)(value[kind], mistakes, disk)


def _reserved(name: str) -> str | None:
    if name in ARGS and name not in _FREE:
        return f"$args({name}) has a meaning already: {ARGS[name]}"
    return None


def _scan(axes: Mapping[str, Any], mistakes: Mistakes) -> JobSource:
    path = (*_AT, "scan")
    found: list[tuple[str, int | tuple[Any, ...]]] = []
    for name, axis in axes.items():
        if why := _reserved(name):
            mistakes.add((*path, name), why, "another name")
        found.append((name, axis if isinstance(axis, int) else tuple(axis)))
    if not found:
        mistakes.add(path, "there is no axis", "name = [values], or name = n")
        return _ONE
    count = math.prod(axis if isinstance(axis, int) else len(axis) for _, axis in found)
    if count > MAX_JOBS:
        mistakes.add(path, f"these are {count} jobs", f"at most {MAX_JOBS}")
    return JobSource("scan", count, axes=tuple(found))


def _csv(name: str, mistakes: Mistakes, disk: Disk) -> JobSource:
    path = (*_AT, "csv")
    try:
        text = disk.read(name).decode("utf-8-sig")
    except OSError as error:
        mistakes.add(path, f"{name} cannot be read: {error.strerror or error}", "a CSV file beside the steering file")
        return _ONE
    except UnicodeDecodeError as error:
        mistakes.add(path, f"{name} is not UTF-8: byte {error.start}")
        return _ONE
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    try:
        for row in reader:
            if not row:
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in row)
            elif len(row) == len(columns):
                rows.append(tuple(row))
            else:
                mistakes.add(
                    path, f"{name}, line {reader.line_num}: {len(row)} values", f"{len(columns)}, as in its header"
                )
    except csv.Error as error:
        mistakes.add(path, f"{name}, line {reader.line_num}: {error}")
        return _ONE
    for column in dict.fromkeys(columns):
        if not COLUMN.match(column):
            mistakes.add(path, f"{name}: {column[:60]!r} is no name of a column", "letters, digits and '_'")
        elif why := _reserved(column):
            mistakes.add(path, f"{name}: column {column!r}: {why}", "another name")
        elif columns.count(column) > 1:
            mistakes.add(path, f"{name}: the column {column!r} is there {columns.count(column)} times")
    if not rows:
        mistakes.add(path, f"{name} has no job", "a header, and a line for each job")
        return _ONE
    return JobSource("rows", len(rows), columns=columns, rows=tuple(rows))


def _files(pattern: str, mistakes: Mistakes, disk: Disk) -> JobSource:
    path = (*_AT, "files")
    try:
        found = disk.glob(pattern)
    except (ValueError, NotImplementedError, OSError) as error:
        mistakes.add(path, f"{pattern!r}: {error}", "a pattern such as data/*.i3")
        return _ONE
    for file in found:
        try:
            file.encode()
        except UnicodeEncodeError:
            mistakes.add(path, f"the name of {file!r} is not UTF-8")
    if not found:
        mistakes.add(path, f"no file matches {pattern!r}", f"a pattern relative to {disk.folder}, or absolute")
        return _ONE
    return JobSource("rows", len(found), columns=("files",), rows=tuple((file,) for file in found))
