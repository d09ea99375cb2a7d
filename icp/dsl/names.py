"""Which names are safe as files, tasks and columns (hides why one is not)."""

from __future__ import annotations

import re

__all__ = ["COLUMN", "NAME", "is_glob", "unsafe"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
"""Datasets and tasks."""

COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
"""Scan axes, columns of a CSV file, steering variables."""

MAX_BYTES = 255


def unsafe(name: str) -> str | None:
    """Why this cannot be a file below a task's directory (a predicate: "is absolute"), or None when it can."""
    if not name:
        return "is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if size > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "holds a control character"
    if name.startswith("/"):
        return "is absolute"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the directory ('..')"
    if "" in parts or "." in parts:
        return "is not plain (no './', no '//', no '/' at the end)"
    return None


def is_glob(name: str) -> bool:
    """Whether this name is a pattern."""
    return any(letter in name for letter in "*?[")
