"""Steering files that are right: what they define, the defaults, jobs from scans, CSV files and file lists, warnings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icp.dsl.disk import Disk
from icp.dsl.steering import load, parse
from icp.errors import BadInput, NotFound
from icp.model.definition import InputRef, OutputDef, Resources, steering_from_json, task_from_json, to_json

THREE = 'jobs = 200\ncommand = "python3 sim.py --seed $args(seed) --out hist.json"\noutputs = ["hist.json"]\n'


def mistakes(text: str, disk: Disk | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        parse(text, "s.toml", disk)
    return "\n".join(caught.value.mistakes)


def test_three_lines_are_a_dataset(tmp_path: Path) -> None:
    file = tmp_path / "first.toml"
    file.write_text(THREE)
    steering = load(file)
    assert (steering.name, steering.jobs.count, steering.path, steering.text) == ("first", 200, str(file), THREE)
    (task,) = steering.tasks
    assert (task.name, task.index, task.final, task.max_tries) == ("main", 0, False, 3)
    assert task.resources == Resources(1, 2 * 10**9, 10**9, 0, 3600)
    assert task.outputs == (OutputDef("hist.json"),)
    assert (steering.stop_loss, steering.priority, steering.seed) == (20, 0, None)
    assert steering.warnings == ()


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no steering file"):
        load(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_tasks_are_in_the_order_in_which_they_can_run() -> None:
    steering = parse(
        """
        jobs = 1
        [task.c]
        inputs = ["b:y"]
        after = ["a"]
        command = "c"
        [task.b]
        inputs = ["a:x*.gz"]
        command = "b"
        outputs = ["y", { name = "z", optional = true, keep = true }]
        [task.a]
        command = "a"
        outputs = ["x*.gz"]
        [final.f]
        inputs = ["c:w[*]", "b:z[*]"]
        command = "f"
        group_by = "$eval($args(job) // 10)"
        """.replace('command = "c"', 'command = "c"\noutputs = ["w"]')
    )
    assert [(task.name, task.index) for task in steering.all_tasks] == [("a", 0), ("b", 1), ("c", 2), ("f", 3)]
    assert steering.task("c").after == ("a", "b")
    assert steering.task("a").outputs == (OutputDef("x*.gz", glob=True),)
    assert steering.task("b").outputs[1] == OutputDef("z", optional=True, keep=True)
    assert steering.task("f").inputs == (InputRef("c", "w", True), InputRef("b", "z", True))
    assert steering.finals[0].after == ("c", "b")
    again = json.loads(json.dumps(to_json(steering)))
    assert steering_from_json(again, text=steering.text) == steering
    assert task_from_json(json.loads(json.dumps(to_json(steering.tasks[0])))) == steering.tasks[0]


def test_units() -> None:
    steering = parse(
        'command = "x"\n[resources]\nmemory = "2 GiB"\ndisk = 500\ntime = "1:30:00"\ncpus = 4\ngpus = "$eval($args(job) % 2)"'
    )
    assert steering.tasks[0].resources == Resources(4, 2 * 2**30, 500 * 10**6, "$eval($args(job) % 2)", 5400)
    assert steering.jobs.count == 1


def test_jobs_of_a_csv_file_keep_their_texts(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_bytes('\ufeffrun,name\r\n007,"a, ""b""\nc"\r\n\r\n8,é\r\n'.encode())
    steering = parse('jobs.csv = "runs.csv"\ncommand = "x $args(run) $args(name)"', disk=Disk(tmp_path))
    assert [steering.jobs.row(job) for job in range(2)] == [
        {"run": "007", "name": 'a, "b"\nc'},
        {"run": "8", "name": "é"},
    ]
    again = steering_from_json(to_json(steering), text=steering.text, rows=steering.jobs.rows)
    assert again == steering


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no job"),
        ("a,b\n", "has no job"),
        ("a,b\n1\n2,3\n", "line 2: 1 values; expected 2"),
        ("a,a\n1,2\n", "'a' is there 2 times"),
        ("job\n1\n", "$args(job) has a meaning already"),
        ("a b\n1\n", "'a b' is no name of a column"),
        ('a\n"x\n', "line 2"),
    ],
)
def test_a_wrong_csv_file_is_a_mistake(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(content)
    assert message in mistakes('jobs.csv = "runs.csv"\ncommand = "x"', Disk(tmp_path))


def test_a_job_for_each_file(tmp_path: Path) -> None:
    for name in ("b.i3", "a b.i3", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.i3").mkdir()
    steering = parse('jobs.files = "*.i3"\ncommand = "x $args(files)"', disk=Disk(tmp_path))
    assert [row[0] for row in steering.jobs.rows] == [str(tmp_path / "a b.i3"), str(tmp_path / "b.i3")]
    absolute = parse(f'jobs.files = "{tmp_path}/*.txt"\ncommand = "x"', disk=Disk(Path("/")))
    assert absolute.jobs.rows == ((str(tmp_path / "c.txt"),),)
    assert "no file matches" in mistakes('jobs.files = "*.root"\ncommand = "x"', Disk(tmp_path))
    assert "only with jobs.files" in mistakes('command = "x $args(files)"')


def test_a_script_that_is_left_behind_is_a_warning_with_the_line_to_add(tmp_path: Path) -> None:
    for name in ("sim.py", "cards.txt", "hist.json"):
        (tmp_path / name).touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "more.py").touch()
    text = 'command = "python3 ./sim.py < cards.txt --out hist.json lib/more.py"\noutputs = ["hist.json"]\nfiles = ["cards.txt", "lib/"]'
    (warning,) = parse(text, "s.toml", Disk(tmp_path)).warnings
    assert warning == (
        "s.toml:1:1: command: ./sim.py lies beside the steering file and is not shipped; "
        'add the line: files = ["cards.txt", "lib/", "sim.py"]'
    )
    assert parse(text.replace('"lib/"', '"lib/", "sim.py"'), disk=Disk(tmp_path)).warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        'command = "x --seed $eval($args(dataset) * 10 + $args(job))"',
        'command = "x --seed=$args(dataset)"',
        'command = ["x", "--seed", "$args(dataset)"]',
        'command = "x"\n[steering]\nmy_seed = "$eval($args(dataset) * 10)"',
    ],
)
def test_a_seed_made_of_the_dataset_is_a_warning(text: str) -> None:
    if "$eval($args(dataset)" in text:
        # the dataset's name is no number: a mistake of its own, at once
        text = text.replace("$args(dataset) * 10", "len($args(dataset)) * 10")
    (warning,) = parse(text).warnings
    assert "use $args(seed)" in warning


def test_what_the_places_of_a_task_do_not_know_is_a_mistake() -> None:
    found = mistakes(
        'jobs = 3\ncommand = "x"\noutputs = ["a-$system(site)", "b-$attr(OS)"]\n'
        '[resources]\nmemory = "$eval($args(job) * 1000)"\ncpus = "$args(iter)"\n'
    )
    assert "$system(site) has a value only in a command" in found
    assert "$attr(OS) has a value only in a command and in requirements" in found
    assert "resources.memory: $eval($args(job) * 1000): '0' is not a size" in found
    assert "(job 0)" in found
    assert "$args(iter): it has a value only in a command" in found


def test_what_is_wrong_for_the_last_job_only_is_found() -> None:
    text = 'jobs.scan = { d = [1, 2, 0] }\ncommand = "x $eval(1 / $args(d))"'
    assert "it divides by zero (job 2)" in mistakes(text)
    assert "leads out of the directory" in mistakes(
        'jobs.scan = { d = ["a", ".."] }\ncommand = "x"\noutputs = ["$args(d)/x"]'
    )


def test_names_that_reach_out_are_refused() -> None:
    for name in ("../x", "a/../b", "/x", "a//b", "./a", "a/", "a\\u0007b", "x" * 256, "a\\nb", ""):
        assert mistakes(f'command = "x"\noutputs = ["{name}"]')
    assert parse('command = "x"\noutputs = ["a/b c", "ü", "..x", "-y"]')


def test_unknown_dollars_belong_to_the_shell() -> None:
    command = "echo $HOME $(date) $$ ${X:-1} `id` $1 $((1+1)) '$foo(x)'"
    assert parse(f'command = "{command}"').tasks[0].trays[0].modules[0].command == command
    assert "did you mean $steering(...)?" in mistakes('command = "x $stering(a)"')
    assert "$foo(...) is no expression" in mistakes('command = "x"\noutputs = ["$foo(x)"]')


def test_windows_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_bytes(b"\xef\xbb\xbfjobs = 2\r\ncommand = '''a\r\nb'''\r\nseed = -1\r\n")
    with pytest.raises(BadInput) as caught:
        load(file)
    assert [mistake.split(": ")[0] for mistake in caught.value.mistakes] == [f"{file}:4:1"]
    file.write_bytes(file.read_bytes().replace(b"-1", b"1"))
    assert load(file).tasks[0].trays[0].modules[0].command == "a\nb"


def test_a_misspelt_expression_in_requirements_is_named() -> None:
    assert "$att(...) is no expression; did you mean $attr(...)?" in mistakes(
        'command = "x"\nrequirements = "$att(GPU)"'
    )
