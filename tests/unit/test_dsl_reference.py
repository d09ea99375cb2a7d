"""The JSON Schema and docs/steering.md say what the code does."""

from __future__ import annotations

import sys
from pathlib import Path

import jsonschema
import pytest

from icp.commands.new import EXAMPLES
from icp.dsl.reference import json_schema, reference
from icp.dsl.steering import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
THREE = 'jobs = 200\ncommand = "x"\noutputs = ["hist.json"]\n'


def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_reference_page_is_the_generated_one() -> None:
    page = (ROOT / "docs" / "steering.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python docs/generate_steering.py"


@pytest.mark.parametrize("text", [THREE, *EXAMPLES.values()])
def test_good_files_pass_the_json_schema(text: str) -> None:
    validator().validate(tomllib.loads(text))


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*/*.toml")), ids=lambda file: file.name)
def test_steering_files_of_the_examples_pass_the_json_schema(file: Path) -> None:
    data = tomllib.loads(file.read_text())
    if "task" in data or "command" in data:
        validator().validate(data)


@pytest.mark.parametrize(
    "line", ["jbos = 3", "jobs = 0", 'jobs = "x"', "command = []", "priority = 6000", "[task.a]\ncpus = 1"]
)
def test_wrong_files_do_not(line: str) -> None:
    assert not validator().is_valid(tomllib.loads(line))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_new_prints_is_valid_without_a_warning(name: str) -> None:
    assert parse(EXAMPLES[name]).warnings == ()
