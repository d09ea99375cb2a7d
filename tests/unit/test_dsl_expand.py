"""Rendering: what a card will hold, to the byte."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from icp.dsl.expand import CannotRender, JobContext, Renderer, SiteContext
from icp.dsl.steering import parse
from icp.model.need import Need, join
from icp.model.need import parse as parse_need

SITE = SiteContext("nsa", {"OS": "el9", "Big": True}, {"data": "/data/x y"})


def renderer(text: str, task: str = "main") -> Renderer:
    steering = parse(text)
    return Renderer(steering, steering.task(task))


def job(number: int = 17, **row: Any) -> JobContext:
    return JobContext("d", 42, number, 100, row)


def argv(command: str, variables: str = "", number: int = 17) -> list[Any]:
    made = renderer(f"jobs = 100\ncommand = {command}\n[steering]\n{variables}")
    (step,) = made.render(job(number), SITE).steps
    return list(step["argv"])


def test_a_step_is_as_the_card_has_it() -> None:
    made = renderer(
        'jobs = 100\ncommand = "corsika --job $args(job) --out $args(task).zst"\noutputs = ["$args(task).zst"]'
    )
    rendered = made.render(job(), SITE)
    assert rendered.steps == [
        {"tray": 0, "iter": 0, "module": 0, "software": None, "env": {}, "argv": ["/bin/sh", "-e", "-c", "corsika --job 17 --out 'main'.zst"]}
    ]  # fmt: skip
    assert rendered.out == [{"name": "main.zst", "optional": False}]
    assert made.outputs(job()) == (("main.zst", False, False),)
    assert made.group(job()) == ""


def test_seeds_are_as_documented() -> None:
    digest = hashlib.sha256(b"42\x0017\0main").digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    assert argv('["x", "$args(seed)"]') == ["x", str(seed)]


def test_choices_are_as_documented_and_the_same_for_all_tasks_when_in_steering() -> None:
    def drawn(owner: bytes, field: bytes, position: int) -> str:
        digest = hashlib.sha256(b"choice\x0042\x0017\0" + owner + b"\0" + field + b"\0%d" % position).digest()
        return "abc"[int.from_bytes(digest[:8], "big") % 3]

    assert argv('["x", "$choice(a, b, c)$choice(a,b,c)"]') == [
        "x",
        drawn(b"main", b"tray.0.module.0.command.1", 0) + drawn(b"main", b"tray.0.module.0.command.1", 1),
    ]
    assert argv('"$steering(p) $choice(a,b,c)"', 'p = "$choice(a, b, c)"')[3] == " ".join(
        [drawn(b"", b"p", 0), drawn(b"main", b"tray.0.module.0.command", 0)]
    )
    several = {argv('["$choice($steering(l))"]', 'l = [1, 2, "x"]', number)[0] for number in range(60)}
    assert several == {"1", "2", "x"}


def test_what_only_the_node_knows_is_a_mark() -> None:
    assert argv(
        '["a", "$system(tmp)", "--dir=$system(tmp)/$args(job)", "$steering(s)"]', 's = "x$system(scratch)"'
    ) == [
        "a",
        {"node": "tmp"},
        ["--dir=", {"node": "tmp"}, "/17"],
        ["x", {"node": "scratch"}],
    ]
    assert (
        argv('"a $system(tmp)/x --p=$steering(s)"', 's = "q $system(platform)"')[3]
        == 'a "$ICP_TMP"/x --p=\'q \'"$ICP_PLATFORM"'
    )


def test_what_the_site_knows_is_inserted() -> None:
    assert argv('["$system(site)", "$system(data)", "$attr(OS)", "$attr(Big)"]') == ["nsa", "/data/x y", "el9", "true"]
    with pytest.raises(CannotRender, match=r"Dataset d, job 17, task main: \$system\(none\): site nsa has no 'none'"):
        argv('["$system(none)"]')
    with pytest.raises(CannotRender, match=r"\$attr\(none\): site nsa does not say its 'none'"):
        argv('["$attr(none)"]')


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$eval($args(job) * 2.5)", "42.5"),
        ("$eval('a' if $args(job) > 16 else 'b')", "a"),
        ("$sprintf('%06d|%-5s|%.2f|%x', $args(job), ab, 3.14159, 255)", "000017|ab   |3.14|ff"),
        ("$sprintf(\"100%%, (%s)\", 'a, b')", "100%, (a, b)"),
        ("$steering($args(task))", "of main"),
        ("$steering(deep)", "17+17"),
        ("$eval($steering(n) + 1)", "6"),
        ("$eval($steering(deep) == '17+17')", "true"),
        ("$$args(job) $args(job)", "$args(job) 17"),
        ("$HOME $$ $(x) $1", "$HOME $$ $(x) $1"),
        ("$args(dataset)/$args(jobs)/$args(run)/$args(subrun)/$args(iter)", "d/100/17/0/0"),
        ("$steering(flag) $steering(f)", "false 0.1"),
    ],
)
def test_values(text: str, value: str) -> None:
    variables = 'main = "of $args(task)"\ndeep = "$steering(one)+$steering(one)"\none = "$args(job)"\nn = 5\nflag = false\nf = 0.1'
    assert argv(f"['''{text}''']", variables) == [value]


def test_a_tray_runs_several_times() -> None:
    made = renderer(
        """
        [[tray]]
        iterations = "$eval($args(job) - 15)"
        [[tray.module]]
        command = ["a", "$args(iter)"]
        [[tray.module]]
        command = "b"
        [[tray]]
        [[tray.module]]
        command = ["c"]
        """
    )
    steps = [(step["tray"], step["iter"], step["module"], step["argv"][-1]) for step in made.render(job(), SITE).steps]
    assert steps == [(0, 0, 0, "0"), (0, 0, 1, "b"), (0, 1, 0, "1"), (0, 1, 1, "b"), (1, 0, 0, "c")]


def test_needs_follow_resources_and_tiers() -> None:
    text = """
    jobs.scan = { n = [1, 2], gpu = [0, 1] }
    command = "x"
    [resources]
    memory = "$eval($args(n) * 1000)"
    disk = "$sprintf('%d GiB', $args(n))"
    gpus = "$args(gpu)"
    time = "30 min"
    """
    made = renderer(text)
    assert made.need(job(n=1, gpu=0)) == Need(((("CPU", "==", True),),), 1, 10**9, 2**30, 0, 1800)
    assert made.need(job(n=2, gpu=1), 2) == Need(
        ((("HasGPU", "==", True),),), 1, 4_500_000_000, int(2 * 2**30 * 2.25), 1, 4050
    )
    assert made.need(job(n=1, gpu=0)) is made.need(job(5, n=1, gpu=0))


def test_a_need_bears_marks_of_its_environments_which_are_those_of_their_contents() -> None:
    text = """
[software.a]
setup = "/sw/setup.sh"
[software.b]
setup = "/sw/setup.sh"
[software.c]
env.A = "$system(site)"
[task.one]
command = "true"
software = "a"
[task.two]
command = "true"
software = "b"
[task.three]
software = "a"
[[task.three.tray]]
module = [{ command = "true" }]
[[task.three.tray]]
software = "c"
module = [{ command = "true" }]
"""
    one, two, three = (renderer(text, task).need(job()) for task in ("one", "two", "three"))
    assert one == two and one.id == two.id
    assert len(one.software) == 1
    assert set(one.software) < set(three.software) and len(three.software) == 2
    assert join([one, three]).software == three.software
    assert parse_need(three.bytes) == three
    assert one.id != replace(one, software=()).id


def test_requirements_of_a_job_hold_its_constants() -> None:
    made = renderer(
        "jobs.scan = { n = [5, 0] }\ncommand = 'x'\nrequirements = '$attr(M) >= $args(n) and ($args(n) > 1 or $attr(Slow))'"
    )
    assert made.need(job(n=5)).any == ((("M", ">=", 5),),)
    assert made.need(job(n=0)).any == ((("M", ">=", 0), ("Slow", "==", True)),)


def test_a_final_task_knows_its_group() -> None:
    text = """
    jobs = 30
    command = "x"
    outputs = ["a"]
    [final.sum]
    inputs = ["main:a[*]"]
    group_by = "$eval($args(job) // 10)"
    command = ["sum", "$args(group)", "$args(seed)"]
    outputs = ["sum-$args(group).txt"]
    """
    made = renderer(text, "sum")
    assert [made.group(job(number)) for number in (0, 9, 10, 29)] == ["0", "0", "1", "2"]
    context = JobContext("d", 42, -1 - 1, 30, {}, "1")
    seed = int.from_bytes(hashlib.sha256(b"42\0-2\0sum").digest()[:8], "big") >> 1
    assert made.render(context, SITE).steps[0]["argv"] == ["sum", "1", str(seed)]
    assert made.outputs(context) == (("sum-1.txt", False, False),)


def test_what_has_no_value_names_the_job_and_the_reason() -> None:
    made = renderer("jobs.scan = { d = [1, 0, 1] }\ncommand = 'x $eval(1 // $args(d))'\noutputs = ['$args(d)']")
    with pytest.raises(
        CannotRender, match=r"Dataset d, job 1, task main: \$eval\(1 // \$args\(d\)\): it divides by zero"
    ):
        made.render(job(1, d=0), SITE)
    with pytest.raises(CannotRender, match="leads out"):
        made.outputs(job(1, d=".."))


def test_an_argument_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(CannotRender, match="cannot be started"):
        renderer("jobs.scan = { n = ['x'] }\ncommand = 'x $args(n)'").render(job(n="é" * 70_000), SITE)
