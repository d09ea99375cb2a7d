"""validate, expand, graph, schema and new: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from icp.commands.expand import expand
from icp.commands.graph import graph
from icp.commands.new import EXAMPLES, new
from icp.commands.schema import schema
from icp.commands.validate import validate
from icp.errors import BadInput, NotFound

app = typer.Typer()
for command in (validate, expand, graph, schema, new):
    app.command()(command)


def icp(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def output(*arguments: str) -> str:
    result = icp(*arguments)
    assert result.exception is None, result.output
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "dag.toml"
    path.write_text(EXAMPLES["dag"])
    return str(path)


def test_new_prints_a_file_that_is_valid(tmp_path: Path) -> None:
    for name in EXAMPLES:
        path = tmp_path / "steering.toml"
        path.write_text(output("new", "--example", name))
        assert "is valid" in output("validate", str(path))
    error = icp("new", "--example", "smple").exception
    assert isinstance(error, NotFound)
    assert error.hint == "Did you mean simple?"


def test_validate(file: str, tmp_path: Path) -> None:
    assert "dataset two-steps, 12 jobs x 2 tasks = 24, and 1 final." in output("validate", file)
    found = json.loads(output("validate", file, "--json"))
    assert found == {
        "ok": True, "mistakes": [], "warnings": [], "name": "two-steps", "jobs": 12, "tasks": ["generate", "count", "merge"],
    }  # fmt: skip
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("jobs = 0\ncommand = 'x $args(jbo)'\n")
    error = icp("validate", str(wrong)).exception
    assert isinstance(error, BadInput)
    assert len(error.mistakes) == 2
    result = icp("validate", str(wrong), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["mistakes"] == list(error.mistakes)
    assert isinstance(icp("validate", str(tmp_path / "none.toml")).exception, NotFound)


def test_expand(file: str) -> None:
    text = output("expand", file, "--job", "5")
    assert "$args(energy) = 10" in text
    assert "runs          wc -c < events.txt > size.txt" in text
    found: dict[str, Any] = json.loads(output("expand", file, "--job", "5", "--task", "merge", "--json"))
    (task,) = found["tasks"]
    assert (task["task"], task["final"], task["inputs"]) == ("merge", True, ["count:size.txt[*]"])
    assert task["resources"] == {"cpus": 1, "memory": 2000000000, "disk": 1000000000, "gpus": 0, "time": 3600}
    assert task["steps"][0]["argv"][:3] == ["/bin/sh", "-e", "-c"]
    for wrong in (["--job", "12"], ["--task", "mrge"]):
        assert isinstance(icp("expand", file, *wrong).exception, NotFound)


def test_expand_shows_what_only_a_site_knows(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("command = 'x $attr(OS) $system(data) $system(tmp)'")
    assert "x '<attr OS>' '<system data>' \"$ICP_TMP\"" in output("expand", str(path))


def test_graph(file: str) -> None:
    assert output("graph", file) == (
        "two-steps: 12 jobs\n└─ generate\n   └─ count  <- events.txt\n      └─ merge (final)  <- size.txt\n"
    )
    assert '"generate" -> "count" [label="events.txt"];' in output("graph", file, "--dot")
    assert 't0 -- "events.txt" --> t1' in output("graph", file, "--mermaid")
    assert json.loads(output("graph", file, "--json"))["edges"][1] == {
        "from": "count",
        "to": "merge",
        "files": ["size.txt"],
    }
    assert isinstance(icp("graph", file, "--dot", "--mermaid").exception, BadInput)


def test_schema_is_json() -> None:
    assert json.loads(output("schema"))["title"] == "icp steering file"
