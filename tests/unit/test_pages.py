"""What the pages show is so: examples validate, configurations render, messages exist (hides the pages' notation)."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from icp import config as configuration
from icp.backends.batch import system
from icp.model.batch import Wanted, batch_name
from tests.conftest import Ran

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Each block of a page in this language, with the heading above it."""
    found, heading = [], ""
    pattern = r"^## (?P<heading>[^\n]*)$|^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```$"
    for part in re.finditer(pattern, (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        heading = part["heading"] or heading
        if part["kind"] == language:
            found.append((heading, part["text"]))
    return found


# -- troubleshooting: each message is one of the program's -------------------------------------------------------


def _template(node: ast.AST) -> str | None:
    """A text of the program with "…" where figures and names go."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def templates() -> list[str]:
    found = []
    for path in sorted((ROOT / "icp").rglob("*.py")):
        texts = filter(None, (_template(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
        found += [" ".join(text.split()) for text in texts]
    return found


TEMPLATES = templates()
MESSAGES = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def is_said(message: str) -> bool:
    """Whether some text of the program has the parts of the message, in their order."""
    pieces = [piece.strip() for piece in message.split("…") if piece.strip(" ():,")]
    assert sum(map(len, pieces)) > 8, f"too little to find: {message}"
    pattern = re.compile(".*".join(map(re.escape, pieces)))
    return any(pattern.search(one) for one in TEMPLATES)


def test_messages_of_troubleshooting_are_the_programs() -> None:
    assert len(MESSAGES) > 60
    assert len(set(MESSAGES)) == len(MESSAGES)
    assert [one for one in MESSAGES if not is_said(one)] == []
    assert not is_said("… is a message that nobody ever wrote")


# -- steering by example, sites by batch system ------------------------------------------------------------------


@pytest.mark.parametrize(("heading", "text"), blocks("by-example.md", "toml"))
def test_example_validates_and_expands(heading: str, text: str, tmp_path: Path, icp: Callable[..., Ran]) -> None:
    (tmp_path / "example.toml").write_text(text)
    (tmp_path / "sim.py").write_text("print()\n")
    (tmp_path / "runs.csv").write_text("run,detector,livetime\n17,north,0.5\n18,south,0.7\n")
    ran = icp("validate", "example.toml", "--json")
    assert (ran.rc, ran.err) == (0, ""), heading
    last = json.loads(ran.out)["jobs"] - 1
    for job in (0, last):
        ran = icp("expand", "example.toml", "--job", job)
        assert (ran.rc, ran.err) == (0, ""), heading


@pytest.mark.parametrize(("heading", "text"), blocks("site-configurations.md", "toml"))
def test_configuration_renders_a_pilot(heading: str, text: str, isolated: Path) -> None:
    (isolated / "icp" / "config.toml").write_text(text)
    for site in configuration.load().sites.values():
        spec = site.pilot
        wanted = Wanted(
            batch_name("0" * 32, "0" * 16), f"{site.root}/pilots/{'0' * 16}", nodes=spec.nodes, cpus=spec.cpus, memory=spec.memory, gpus=spec.gpus,
            disk=spec.disk, walltime=spec.walltime or 3600, partition=spec.partition, account=spec.account, qos=spec.qos, constraint=spec.constraint,
            program=None if site.shared else f"{site.root}/pilot.pyz", options=site.options,
        )  # fmt: skip
        captured = system(site.scheduler).render(wanted)
        script = "\n".join([*captured.argv, *captured.files.values()])
        for value in filter(None, (spec.partition, spec.account)):
            assert value in script, heading


# -- the site ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_site_is_built_without_a_warning_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("mkdocs")), "--quiet", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "first-hour.html", "architecture.html", "changelog.html"} <= pages.keys()
    for name, text in pages.items():
        assert not re.search(r"<(?:script|img|iframe)[^>]*\bsrc=[\"']?(?:https?:)?//|<link[^>]*\bhref=[\"']?(?:https?:)?//", text), name
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_code_on_a_page_stays_as_it_is_in_the_site() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from site_hooks import PARTS
    finally:
        sys.path.pop(0)
    found = [part["target"] for part in PARTS.finditer("`[a](b)` [c](d)\n```python\nx = [e](f)\n```\n[`g`](../h)\n")]
    assert [one for one in found if one] == ["d", "../h"]


def test_manual_page_has_every_command() -> None:
    from icp import cli

    page = (DOCS / "icp.1").read_text(encoding="utf-8")
    for name, _ in cli.walk():
        assert f".SS icp {name}\n".replace("-", "\\-") in page
