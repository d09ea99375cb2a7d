"""Whatever is in an argument or a variable of a foreign description arrives at the program byte for byte."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.foreign.described import Job, Out, describe
from icp.dsl.foreign.directives import indices
from icp.dsl.foreign.words import JOB, name, sh
from icp.dsl.steering import parse
from icp.model.definition import Steering

LINE = st.text(st.characters(exclude_characters="\0\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", exclude_categories=["Cs"]), max_size=20)
TRICKY = st.one_of(
    LINE, st.sampled_from(["$args(job)", "$$args(x)", "$(Process)", "a b", "it's", '"', "''", "\\", "", "$eval(1)", "`id`", "*", "~", "$HOME", "-n"])
)  # fmt: skip
WORDS = st.lists(TRICKY, max_size=6)


def ran(steering: Steering, job: int, cwd: Path, env: dict[str, str] | None = None) -> bytes:
    (task,) = steering.tasks
    context = JobContext(steering.name, 1, job, steering.jobs.count, steering.jobs.row(job))
    argv = Renderer(steering, task).render(context, SiteContext("s", {}, {})).steps[0]["argv"]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, check=True, env={"PATH": "/usr/bin:/bin", **(env or {})})
    return done.stdout


def new_syntax(words: list[str]) -> str:
    quoted = ["'" + word.replace("'", "''").replace('"', '""').replace("$", "$(DOLLAR)") + "'" for word in words]
    return '"' + " ".join(quoted) + '"'


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, st.booleans())
def test_arguments_in_the_new_syntax_arrive(tmp_path: Path, words: list[str], rows: bool) -> None:
    queue = "queue x in (1 2)" if rows else "queue 2"
    tail = "$(x)" if rows else "$(Process)"
    line = new_syntax(["%s\\0", *words])[:-1] + f' {tail}"'
    text = f"executable = /usr/bin/printf\narguments = {line}\nallowed_execute_duration = 5\n{queue}\n"
    steering = parse(text, "job.sub")
    assert ran(steering, 1, tmp_path).decode().split("\0")[:-1] == [*words, "2" if rows else "1"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE.map(lambda word: "".join(word.split()).replace('"', "").replace("$", "").replace("\\", "")).filter(bool), min_size=1, max_size=5))
def test_arguments_in_the_old_syntax_arrive(tmp_path: Path, words: list[str]) -> None:
    text = f"executable = /usr/bin/printf\narguments = %s\\0 {' '.join(words)} end\nallowed_execute_duration = 5\nqueue\n"
    assert ran(parse(text, "job.sub"), 0, tmp_path).decode().split("\0")[:-1] == [*words, "end"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TRICKY)
def test_variables_arrive(tmp_path: Path, value: str) -> None:
    words = new_syntax([f"VALUE={value}"])
    text = f"executable = /usr/bin/printenv\narguments = VALUE\nenvironment = {words}\nallowed_execute_duration = 5\nqueue\n"
    assert ran(parse(text, "job.sub"), 0, tmp_path).decode() == value + "\n"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS.filter(lambda words: "" not in words[:1]), st.integers(0, 3))
def test_words_with_expressions_and_without_are_words(tmp_path: Path, words: list[str], job: int) -> None:
    text = " ".join(sh(word) for word in ["printf", "%s\\0", *words, f"a'{JOB}$args({JOB}"])
    steering = parse('jobs = 4\ncommand = "x"\n')
    (task,) = steering.tasks
    from dataclasses import replace

    from icp.model.definition import Module, Tray

    steering = replace(steering, tasks=(replace(task, trays=(Tray((Module(text),)),)),))
    assert ran(steering, job, tmp_path).decode().split("\0")[:-1] == [*words, f"a'{job}$args({job}"]


@given(TRICKY)
def test_a_name_in_which_nothing_is_an_expression_stays_as_it_is(text: str) -> None:
    from icp.dsl.syntax import split

    assert "".join(piece for piece in split(name(text)) if isinstance(piece, str)) == text


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_indices_are_those_that_are_written(numbers: list[int]) -> None:
    assert indices(",".join(map(str, numbers))) == (sorted(set(numbers)), False)


def test_jobs_with_different_numbers_of_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        describe("d", [Job(("a",), outputs=(Out("x"),)), Job(("a",))])
