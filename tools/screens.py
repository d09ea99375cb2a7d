"""The screens in docs/: each is what its command prints in a home made for its page; rewritten where it says something else by now."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCREEN = re.compile(r"^<!-- (?P<kind>screen|run|file): (?P<said>[^\n]*?) -->\n(?:```(?P<lang>\w+)\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
"""``screen``: what a command prints follows; ``run``: it runs, and is not shown; ``file``: the block that follows is this file."""
FIGURES = re.compile(r"\b[0-9a-f]{8,}\b|\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?: (?:ms|s|min|h|d)\b)?")


def rewritten(text: str) -> str:
    """A page with its screens as they are now. One that differs in figures only (times, ids) stays as it is."""
    if not any(found["kind"] == "screen" for found in SCREEN.finditer(text)):
        return text
    with tempfile.TemporaryDirectory(prefix="icp-screens-") as folder:
        home = Path(folder, "me")
        (home / ".icp").mkdir(parents=True)
        (home / ".icp" / "config.toml").write_text("[site.local.pilot]\nidle = 1\n", encoding="utf-8")
        fresh = SCREEN.sub(lambda found: _one(found, home), text)
        if any(found["kind"] == "run" for found in SCREEN.finditer(text)):
            _printed("icp site drain local --wait", home)  # nothing is left running
        return fresh


def _one(found: re.Match[str], home: Path) -> str:
    mark = f"<!-- {found['kind']}: {found['said']} -->\n"
    if found["kind"] == "file":
        (home / found["said"]).write_text(found["text"], encoding="utf-8")
        return found[0]
    printed = _printed(found["said"], home)
    if found["kind"] == "run":
        return found[0]
    old = found["text"] or ""
    new = f"$ {found['said']}\n{printed}"
    return mark + f"```text\n{old if _same(old, new) else new}```\n"


def _same(old: str, new: str) -> bool:
    return _plain(old) == _plain(new)


def _plain(text: str) -> list[str]:
    return [" ".join(FIGURES.sub("#", line).split()) for line in text.splitlines()]


def _printed(command: str, home: Path) -> str:
    env = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(home), "ICP_NODE_DIR": str(home / ".node"), "TMPDIR": str(home)}
    env |= {"COLUMNS": "100", "TZ": "UTC", "LANG": "C.UTF-8", "ICP_HOME": str(home / ".icp"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(
        words, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    lines = done.stdout.replace(str(home), "/home/me").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def pages(docs: Path) -> Iterator[Path]:
    """Those that have screens."""
    yield from (one for one in sorted(docs.glob("*.md")) if SCREEN.search(one.read_text(encoding="utf-8")))
