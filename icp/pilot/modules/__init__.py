"""Modules that are there without a file of one's own, ``python = "NAME"`` in a steering file: each file is one, its
class has the file's name (hides how patterns name files).
"""

import glob
import os

__all__ = ["NAMES", "chosen", "inside"]

NAMES = ("checksum", "cleanup", "merge", "tarball", "transfer")


def chosen(patterns: "list[str]", needed: bool = True) -> "list[str]":
    """The files and folders that the patterns name, each once, in the order of the patterns and sorted within one;
    FileNotFoundError for a pattern that names nothing, where it is ``needed``.
    """
    found: list[str] = []
    for pattern in patterns:
        names = sorted(glob.glob(pattern, recursive=True)) or ([pattern] if os.path.lexists(pattern) else [])
        if not names and needed:
            raise FileNotFoundError(f"nothing is named {pattern} in {os.getcwd()}")
        found += [name for name in names if name not in found]
    return found


def inside(name: str) -> str:
    """The name again; ValueError where it is not below the current directory."""
    plain = os.path.normpath(name)
    if os.path.isabs(plain) or plain in (".", "..") or plain.startswith("../"):
        raise ValueError(f"{name!r} is not below the task's directory")
    return name
