"""Descriptions for other batch systems become what stands beside them in tests/golden/foreign: jobs, warnings, mistakes."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from icp.dsl.disk import Disk
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.foreign import reader
from icp.dsl.foreign.condor_text import statements
from icp.dsl.steering import load, parse
from icp.engine.submission import prepare
from icp.errors import BadInput
from icp.model.definition import Steering

GOLDEN = Path(__file__).parent.parent / "golden" / "foreign"
FILES = sorted(one for one in GOLDEN.iterdir() if one.suffix in (".sub", ".sbatch", ".slurm", ".pbs", ".sge"))


def _shown(steering: Steering) -> str:
    jobs = steering.jobs.count
    lines = [f"{steering.name}: {jobs} jobs ({steering.jobs.kind}), priority {steering.priority}, category {steering.category!r}",
             f"files: {', '.join(steering.files)}", *steering.warnings]  # fmt: skip
    (task,) = steering.tasks
    lines.append(f"max_tries {task.max_tries}, requirements {task.requirements!r}")
    renderer = Renderer(steering, task)
    for job in sorted({0, jobs // 2, jobs - 1}):
        context = JobContext(steering.name, 17, job, jobs, steering.jobs.row(job))
        need = renderer.need(context)
        rendered = renderer.render(context, SiteContext("site", {}, {}))
        lines += ["", f"--- job {job}: {need.cpus} cpus, {need.memory} bytes, disk {need.disk}, {need.gpus} gpus, {need.time} s; {need.any}"]
        lines += [rendered.steps[0]["argv"][-1], f"outputs: {json.dumps(rendered.out)}"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_a_description_becomes(file: Path) -> None:
    try:
        text = _shown(parse(file.read_text(), file.name, Disk(GOLDEN)))
    except BadInput as error:
        text = "\n".join([error.message, *error.mistakes]) + "\n"
        assert file.name.startswith(("wrong", "nothing")), text
    assert text == file.with_name(file.name + ".txt").read_text()


@pytest.mark.parametrize(("name", "text", "known"), [
    ("x.sub", "executable = a\nqueue", True), ("noend", "executable = a\nQueue 5\n", True), ("noend", "#!/bin/sh\n#SBATCH -n 1\n", True),
    ("noend", "#PBS -l ncpus=1\ntrue\n", True), ("run.sh", "true\n", True), ("steering.toml", "#!/bin/sh\nqueue", False), ("noend", "jobs = 5\n", False),
    ("noend", 'command = "true"\nqueue = 5\n', False),
])  # fmt: skip
def test_descriptions_are_known_by_name_or_content(name: str, text: str, known: bool) -> None:
    assert (reader(text, name) is not None) == known


def test_a_continued_line_has_the_number_of_its_first() -> None:
    found = list(statements("a = 1 \\\n  # in between\n  2\n\nqueue\n"))
    assert [(one.line, getattr(one, "value", None)) for one in found] == [(1, "1 2"), (5, None)]


def test_files_outside_of_the_folder_are_shipped_under_names_that_cannot_meet(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "sub").mkdir(parents=True)
    (tmp_path / "a" / "same.txt").write_text("a")
    (tmp_path / "b" / "same.txt").write_text("b")
    (tmp_path / "b" / "sub" / "deep.txt").write_text("deep")
    shutil.copy(GOLDEN / "prog.sh", tmp_path / "b")
    (tmp_path / "b" / "job.sub").write_text(
        f"executable = prog.sh\ntransfer_input_files = ../a/same.txt, sub, {tmp_path}/a/same.txt\nallowed_execute_duration=9\nqueue\n"
    )
    steering = load(tmp_path / "b" / "job.sub")
    assert steering.files == ("prog.sh", "../a/same.txt", "sub", f"{tmp_path}/a/same.txt")
    pack = prepare(tmp_path / "b" / "job.sub").pack
    assert pack is not None
    with tarfile.open(fileobj=io.BytesIO(pack[1])) as tar:
        names = tar.getnames()
    assert names == sorted([".outside/_up/a/same.txt", f".outside{tmp_path}/a/same.txt", "prog.sh", "sub/deep.txt"])
