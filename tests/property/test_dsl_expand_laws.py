"""Expansion is the same every time, wherever it runs; scans count like loops; random expressions give a value or a reason."""

from __future__ import annotations

import itertools
import json
import math
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.expressions import Compiler, Place
from icp.dsl.syntax import BadExpression
from icp.dsl.values import Scope
from icp.errors import BadInput
from icp.model.definition import (
    JobSource,
    Module,
    OutputDef,
    Resources,
    Steering,
    TaskDef,
    Tray,
    steering_from_json,
    to_json,
)

axes = st.lists(
    st.tuples(
        st.sampled_from(["energy", "zenith", "seed", "model"]),
        st.one_of(
            st.integers(1, 5),
            st.lists(st.one_of(st.integers(), st.text(max_size=3), st.booleans()), min_size=1, max_size=4).map(tuple),
        ),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda axis: axis[0],
)


@settings(deadline=None)
@given(axes)
def test_a_scan_counts_like_loops_inside_each_other(scan: Any) -> None:
    lists = [list(range(axis)) if isinstance(axis, int) else list(axis) for _, axis in scan]
    source = JobSource("scan", math.prod(map(len, lists)), axes=tuple(scan))
    expected = [dict(zip([name for name, _ in scan], values, strict=True)) for values in itertools.product(*lists)]
    assert [source.row(job) for job in range(source.count)] == expected


texts = st.lists(
    st.sampled_from(
        ["$args(job)", "$args(seed)", "$args(task)", "$choice(a, b, $choice(c, 'd, e'))", "$steering(who)", "$steering(draw)",
         "$eval($args(job) * 2 + $args(n))", "$sprintf('%05d', $args(job))", "$args(n)", "x", " ", "-", "$$args(x)", "$HOME", "é"]
    ),
    min_size=1, max_size=6,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, min_size=1, max_size=3), texts, st.integers(0, 2**63 - 1), st.integers(0, 99))
def test_the_same_job_is_always_rendered_the_same(commands: list[str], output: str, seed: int, job: int) -> None:
    task = TaskDef(
        "main",
        0,
        False,
        (Tray((Module(tuple(commands)), Module(" ".join(commands)))),),
        outputs=(OutputDef(output),),
        resources=Resources(memory="$eval(100 * (1 + $args(job)))", gpus="$choice(0, 1)"),
        requirements="$attr(A) > $args(n)",
    )
    variables = {"who": "$choice(proton, iron) of $args(job)", "draw": "$choice(1, 2, 3)"}
    steering = Steering("d", JobSource("scan", 100, axes=(("n", 100),)), (task,), variables=variables)
    again = steering_from_json(json.loads(json.dumps(to_json(steering))))
    assert again == steering
    context = JobContext("d", seed, job, 100, steering.jobs.row(job))
    results = []
    for definition in (steering, again):
        renderer = Renderer(definition, definition.tasks[0])
        # what was rendered before must not matter
        renderer.need(JobContext("d", 1, 5, 100, {"n": 5}))
        try:
            outputs: Any = renderer.outputs(context)
        except BadInput as error:
            outputs = error.message
        site = SiteContext("s", {}, {})
        steps = renderer.render(context, site).steps if isinstance(outputs, tuple) else None
        results.append((outputs, steps, renderer.need(context, 2).bytes))
    assert results[0] == results[1]
    assert json.loads(json.dumps(results[0][1])) == results[0][1]


pieces = st.sampled_from(
    ["$args(", "$steering(", "$eval(", "$sprintf(", "$choice(", "$system(", "$attr(", ")", ")", ")", "job", "n", "a", "b", "loop", "tmp",
     "site", ",", "'", '"', "%d", "%s", "%9999999d", "1", "+", "*", "**", "(", " ", "$", "$$", "\\", "\n", "9" * 30]
)  # fmt: skip


@settings(deadline=None, max_examples=600)
@given(st.lists(pieces, max_size=25).map("".join), st.lists(pieces, max_size=10).map("".join))
def test_any_text_has_a_value_or_a_reason(text: str, variable: str) -> None:
    began = time.process_time()
    compiler = Compiler({"a": variable, "b": [1, "$args(n)"], "loop": "$steering(a)"}, ["n"])
    scope = Scope(JobContext("d", 1, 2, 3, {"n": "7"}), "t", SiteContext("s", {"n": 5}, {"n": "x"}))
    try:
        compiler.compile(text, Place("t", "f")).run(scope)
    except BadExpression as error:
        assert error.reason
    assert time.process_time() - began < 1


def test_variables_that_double_each_other_are_refused_at_once() -> None:
    began = time.process_time()
    for leaf in ("$args(n)", "xxxxxxxx", ""):
        variables = {f"v{i}": f"$steering(v{i + 1})$steering(v{i + 1})" for i in range(60)} | {"v60": leaf}
        try:
            Compiler(variables, ["n"]).compile("$steering(v0)", Place("t", "f"))
        except BadExpression as error:
            assert "expressions" in error.reason or "longer" in error.reason
        else:
            assert leaf == ""
    assert time.process_time() - began < 1
