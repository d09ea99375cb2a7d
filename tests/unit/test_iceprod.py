"""IceProd's steering files become ours: what is converted, what is marked at its place, what is refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from icp.dsl.expand import JobContext, Renderer
from icp.dsl.foreign.iceprod import Converted, convert
from icp.errors import BadInput
from icp.model.definition import Steering
from tests.iceprod_said import ICEPROD, WITHOUT, argv, iceprod_schema, steering_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "iceprod"
FILES = sorted(one for one in EXAMPLES.iterdir() if one.suffix in (".xml", ".json"))


def of(task: dict[str, Any] | list[dict[str, Any]], **config: Any) -> Converted:
    tasks = task if isinstance(task, list) else [{"name": "t", **task}]
    given = {"version": 3.1, "description": "", "options": {"jobs_submitted": 10}, "tasks": tasks, **config}
    return convert(json.dumps(given), "old.json")


def module(**keys: Any) -> dict[str, Any]:
    return {"trays": [{"modules": [{"src": "/bin/echo", "env_clear": False, **keys}]}]}


def xml(inside: str, port: bool = False) -> Converted:
    return convert(f'<?xml version="1.0"?>\n<configuration version="3.0">{inside}</configuration>', "old.xml", jobs=10, port=port)


def table(found: Converted) -> dict[str, Any]:
    return tomllib.loads(found.text)


def words(found: Converted) -> list[str]:
    return [f"{note.word}: {note.about}" for note in found.notes]


def marked(found: Converted, *parts: str) -> None:
    """Listed, and said in the text at its place."""
    about = [note.about for note in found.notes if all(part in str(note) for part in parts)]
    assert about, words(found)
    assert about[0].replace("\n", "\n# ") in found.text


def need(steering: Steering, task: str, job: int = 0) -> Any:
    about = next(one for one in steering.tasks if one.name == task)
    return Renderer(steering, about).need(JobContext(steering.name, 0, job, steering.jobs.count, {}))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_examples_are_what_the_command_makes(file: Path) -> None:
    assert convert(file.read_text(), str(file), jobs=2000).text == file.with_suffix(".toml").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_examples_validate_and_expand(file: Path) -> None:
    steering = steering_of(file.with_suffix(".toml").read_text())
    for task in steering.tasks:
        assert argv(steering, task.name, 7)


@pytest.mark.skipif(not ICEPROD, reason=WITHOUT)
@pytest.mark.parametrize("file", [one for one in FILES if one.suffix == ".json"], ids=lambda file: file.name)
def test_the_examples_are_what_iceprod_3_accepts(file: Path) -> None:
    jsonschema.validate(json.loads(file.read_text()), iceprod_schema())


def test_figure_3_1_is_the_graph_of_the_thesis() -> None:
    steering = steering_of((EXAMPLES / "simulation.toml").read_text())
    assert {task.name: task.after for task in steering.tasks} == {
        "signal": (), "background": (), "photons": ("signal", "background"), "ic86": ("photons",), "ic59": ("photons",),
    }  # fmt: skip
    asked = need(steering, "photons").any
    assert [set(map(tuple, clause)) for clause in asked] == [{("GPUSPerNode", ">=", 4), ("HasGPU", "==", True), ("HasPhotonicsTables", "==", True)}]


def test_figure_3_3_runs_its_second_level_on_gpus_and_merges() -> None:
    steering = steering_of((EXAMPLES / "gpu-merge.toml").read_text())
    assert {task.name for task in steering.tasks if need(steering, task.name).gpus} == {"gpu_0", "gpu_1"}
    merge = next(task for task in steering.tasks if task.name == "merge")
    assert [f"{ref.task}:{ref.output}" for ref in merge.inputs] == ["gpu_0:hits0.i3", "gpu_1:hits1.i3"]
    assert argv(steering, "generate_2", 3) == [
        ["python", "/cvmfs/example.org/sim/generate.py", "--seed", "2100200003", "--energy", energy, "--append", "light2.i3"]
        for energy in ("100000", "1000000")
    ]
    assert [need(steering, "generate_2", job).memory for job in (0, 1)] == [10**9, 2 * 10**9]


# arguments

@pytest.mark.parametrize(("args", "wanted"), [
    ("a  $(job)\tb", ["a", "3", "b"]), ("", []), (["$(job)", "x y"], ["3", "x y"]), ({"n": 1, "long": "x"}, ["-n=1", "--long=x"]),
    ({"quiet": None}, ["--quiet"]), ({"yes": True, "list": [1, "a"]}, ["--yes=True", "--list=[1, 'a']"]), ('{"n": 5}', ["-n=5"]),
    ({"args": ["one"], "kwargs": {"two": "$(job)"}}, ["one", "--two=3"]), ("007 1.50", ["7", "1.5"]), (["$args(nothing)"], ["$args(nothing)"]),
])  # fmt: skip
def test_arguments_are_put_together_as_iceprod_does(args: Any, wanted: list[str]) -> None:
    assert argv(steering_of(of(module(args=args)).text), "t", 3) == [["/bin/echo", *wanted]]


@pytest.mark.parametrize(("src", "wanted"), [
    ("/x/a.py", ["python", "/x/a.py"]), ("/x/a.sh", ["/bin/sh", "/x/a.sh"]), ("run", ["./run"]), ("a.py", ["python", "a.py"]),
])  # fmt: skip
def test_a_script_is_started_as_iceprod_does(src: str, wanted: list[str]) -> None:
    assert argv(steering_of(of(module(src=src)).text), "t") == [wanted]


def test_a_variable_of_the_environment_is_left_to_the_shell(tmp_path: Path) -> None:
    found = of(module(args=["$HOME/a b/$(job)", "it's", "${X}y"]))
    (command,) = argv(steering_of(found.text), "t", 3)
    line = command[-1].replace("/bin/echo", "printf '%s\\n'")
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, env={"HOME": "/h h", "X": "1"})
    assert done.stdout.splitlines() == ["/h h/a b/3", "it's", "1y"]


def test_a_class_of_iceprod_1_is_called_with_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(
        "import json\nclass Old:\n    def __init__(self): self.all = {}\n    def SetParameter(self, name, value): self.all[name] = value\n"
        "    def Execute(self, stats): print(json.dumps(self.all)); return 0\n"
    )
    args = {"seed": "$steering(seed)", "text": "say \"$steering(word)\" \\ ok", "flag": "$steering(flag)", "all": [1, "$(job)", None],
            "padded": "$sprintf('%03d',$(job))"}  # fmt: skip
    parameters = {"seed": "$eval($(job) + 1)", "word": "it's", "flag": False}
    found = of(module(src="", running_class="old.Old", args=args), steering={"parameters": parameters})
    (command,) = argv(steering_of(found.text), "t", 3)
    done = subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=True)
    # IceProd reads a text of digits that stands alone as a number, and takes backslashes away
    assert json.loads(done.stdout) == {"seed": 4, "text": "say \"it's\"  ok", "flag": False, "all": [1, 3, None], "padded": 3}


def test_a_config_is_written_before_its_module(tmp_path: Path) -> None:
    found = of(module(configs={"c.json": {"n": "$(job)", "s": "x$(job)", "deep": [{"b": True}]}}))
    first, second = argv(steering_of(found.text), "t", 3)
    subprocess.run(first, cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "c.json").read_text()) == {"n": 3, "s": "x3", "deep": [{"b": True}]}
    assert second == ["/bin/echo"]


def test_parameters_of_inner_levels_hide_the_outer_ones() -> None:
    inner = {"trays": [{"parameters": {"a": "tray"}, "modules": [
        {"src": "/bin/echo", "args": ["$(a)", "$(b)", "$steering(a)"]}, {"src": "/bin/echo", "parameters": {"b": "own$(a)"}, "args": ["$(b)"]},
    ]}], "parameters": {"b": "task"}}  # fmt: skip
    found = of(inner, steering={"parameters": {"a": "file", "b": "file"}})
    assert argv(steering_of(found.text), "t") == [["/bin/echo", "tray", "task", "file"], ["/bin/echo", "owntray"]]


def test_names_that_cannot_be_variables_are_renamed_and_said() -> None:
    found = of(module(args=["$steering(A::b c)", "$steering(A_b_c)"]), steering={"parameters": {"A::b c": "1st", "A_b_c": "2nd"}})
    assert argv(steering_of(found.text), "t") == [["/bin/echo", "1st", "2nd"]]
    assert "# in IceProd: steering.A::b c\n" in found.text


# data

DATA = [
    {"name": "a", "trays": module()["trays"], "data": [{"local": "x", "type": "job_temp", "movement": "output"},
     {"local": "h", "remote": "gsiftp://e.org/h", "movement": "output", "transfer": "maybe"},
     {"local": "n", "remote": "g", "movement": "output", "transfer": False}]},
    {"name": "b", "depends": ["a"], "trays": module(args="$(input) $(output)")["trays"], "data": [{"local": "x", "type": "job_temp", "movement": "input"},
     {"remote": "https://e.org/d/t.gz"}, {"remote": "rel/u.gz", "local": "v"}, {"local": "gone", "type": "job_temp"},
     {"local": "y", "remote": "p/$(job)", "movement": "output"}]},
]  # fmt: skip


def test_data_become_inputs_and_outputs() -> None:
    found = of(DATA)
    tasks = table(found)["task"]
    assert tasks["a"]["outputs"] == [{"name": "x", "keep": False}, {"name": "h", "optional": True, "keep": False, "url": "gsiftp://e.org/h"}]
    assert tasks["b"]["inputs"] == ["a:x", {"url": "https://e.org/d/t.gz"}, {"url": "$steering(data_url)rel/u.gz", "name": "v"}]
    assert tasks["b"]["outputs"] == [{"name": "y", "keep": False, "url": "$steering(data_url)p/$args(job)"}]
    marked(found, "NOT CONVERTED", "gone")
    marked(found, "CHECK", "does not transfer")
    assert argv(steering_of(found.text), "b")[0][1:] == ["x", "t.gz", "v", "y"]


def test_files_of_one_name_do_not_come_home_into_one_folder() -> None:
    data = [{"movement": "output", "local": "["}]
    found = convert(json.dumps({
        "version": 3.1, "description": "", "options": {}, "steering": {"data": data, "parameters": {}, "batchsys": {}},
        "tasks": [{"name": name, "depends": [], "trays": [{"modules": [{"src": "/x/a.py"}]}]} for name in ("one", "two")],
    }), "old.json", jobs=2)  # fmt: skip
    assert steering_of(found.text).tasks
    marked(found, "NOT CONVERTED", "that of one comes home")


def test_a_folder_that_is_to_be_fetched_is_marked() -> None:
    found = of({**module(), "data": [{"local": "x", "remote": "//", "type": "permanent", "movement": "input"}]})
    marked(found, "NOT CONVERTED", "is a folder")
    assert "inputs" not in table(found)["task"]["t"]
    assert steering_of(found.text).tasks


@pytest.mark.parametrize("remote", ["//", "e/", "gsiftp://e.org", "gsiftp://e.org/"])
def test_what_is_to_be_stored_as_a_folder_is_marked(remote: str) -> None:
    found = of({**module(), "data": [{"local": "x", "remote": remote, "type": "permanent", "movement": "output"}]})
    marked(found, "NOT CONVERTED", "folder")
    assert "outputs" not in table(found)["task"]["t"]
    assert steering_of(found.text).tasks


def test_what_moves_both_ways_is_marked() -> None:
    found = of({**module(), "data": [{"local": "x", "remote": "https://e.org/x", "movement": "both"}]})
    marked(found, "NOT CONVERTED", "input and an output")
    assert table(found)["task"]["t"]["inputs"] == [{"url": "https://e.org/x"}]


# needs

def test_requirements_have_iceprods_units() -> None:
    asked = {"cpu": 2, "gpu": 1, "memory": 2.5, "disk": "$eval(2*2)", "time": "$steering(hours)"}
    found = need(steering_of(of({**module(), "requirements": asked}, steering={"parameters": {"hours": 1.5}}).text), "t")
    assert (found.cpus, found.gpus, found.memory, found.disk, found.time) == (2, 1, 2_500_000_000, 4_000_000_000, 5400)


def test_iceprod_3_states_its_defaults_and_the_others_have_none() -> None:
    assert table(of(module()))["task"]["t"]["resources"] == {"cpus": 1, "memory": "1 GB", "disk": "1 GB", "time": "1 h"}
    assert "resources" not in table(of(module(), version=3))["task"]["t"]


def test_batch_options_are_converted_or_marked() -> None:
    found = of({**module(), "batchsys": {"condor": {"requirements": "HasX && Y > 3", "request_memory": "3000", "rank": "Mips"}, "pbs": {"-q": "long"}}})
    asked = table(found)["task"]["t"]
    assert asked["requirements"] == "$attr(HasX) and $attr(Y) > 3"
    assert asked["resources"]["memory"] == "3000 MiB"
    marked(found, "NOT CONVERTED", "rank")
    marked(found, "NOT CONVERTED", "-q")


# what has no counterpart is marked, never dropped

@pytest.mark.parametrize(("where", "key", "value"), [
    ("config", "mystery", {"a": 1}), ("task", "mystery", 5), ("tray", "mystery", "x"), ("module", "mystery", ["y"]), ("task", "container", "/cvmfs/x"),
    ("task", "task_files", True), ("task", "classes", [{"name": "c", "src": "http://x/c.tgz"}]), ("module", "projects", [{"name": "p"}]),
    ("task", "depends", ["nobody"]), ("steering", "mystery", 7),
])  # fmt: skip
def test_no_key_is_lost(where: str, key: str, value: Any) -> None:
    task: dict[str, Any] = {"name": "t", **module()}
    steering: dict[str, Any] = {"parameters": {}}
    place = {"config": {}, "task": task, "tray": task["trays"][0], "module": task["trays"][0]["modules"][0], "steering": steering}[where]
    place[key] = value
    found = of([task], steering=steering, **({key: value} if where == "config" else {}))
    marked(found, "NOT CONVERTED", key if key != "depends" else "nobody")
    assert steering_of(found.text).tasks


@pytest.mark.parametrize("text", [
    "$eval(5^2)", "$eval(max(1,2))", "$environ(OS_ARCH)", "$steering(nothing)", "$(task_id)", "$metadata(nothing)", "$sprintf('%d')",
])  # fmt: skip
def test_an_expression_without_a_value_is_left_as_text_and_marked(text: str) -> None:
    found = of(module(args=[text]))
    marked(found, "NOT CONVERTED", text)
    assert argv(steering_of(found.text), "t") == [["/bin/echo", text]]


def test_metadata_and_description_are_kept() -> None:
    difplus = {"dif": {"sensor_name": "IceCube"}, "plus": {"category": "generated"}}
    found = of(module(args=["$metadata(category)"]), difplus=difplus, description="What it is\nin two lines")
    assert argv(steering_of(found.text), "t") == [["/bin/echo", "generated"]]
    assert "# What it is\n# in two lines\n" in found.text
    marked(found, "NOT CONVERTED", "IceCube")


def test_jobs_and_the_number_of_the_dataset_are_asked_for_where_nothing_says_them() -> None:
    found = of(module(args=["$(dataset)"]), options={})
    assert table(found)["jobs"] == 1
    assert any("--jobs N" in one for one in words(found))
    assert any(note.place == "steering.dataset" for note in found.notes)
    given = convert(json.dumps({"version": 3.1, "tasks": [{"name": "t", **module(args=["$(dataset)"])}]}), "x.json", jobs=7, dataset=21002)
    assert table(given)["jobs"] == 7
    assert argv(steering_of(given.text), "t") == [["/bin/echo", "21002"]]
    assert not given.notes


def test_software_of_an_env_shell_is_named_once() -> None:
    shell = "/cvmfs/e.org/py3/icetray-env icetray/v1"
    found = table(of([{"name": "a", **module(env_shell=shell)}, {"name": "b", **module(env_shell=shell)}]))
    assert found["software"] == {"icetray-v1": {"cvmfs": ["e.org"], "shell": shell}}
    assert found["task"]["a"]["software"] == found["task"]["b"]["software"] == "icetray-v1"


def test_modules_of_one_tray_with_other_environments_become_trays_or_keep_theirs() -> None:
    modules = [{"src": "/a", "env_shell": "/x/env one"}, {"src": "/b"}]
    once = table(of({"trays": [{"name": "n", "modules": modules}]}))["task"]["t"]["tray"]
    assert [tray.get("software") for tray in once] == ["one", None]
    often = table(of({"trays": [{"name": "n", "iterations": 2, "modules": modules}]}))["task"]["t"]["tray"]
    assert [one["command"] for one in often[0]["module"]] == [["/x/env", "one", "/a"], ["/b"]]


# XML

def test_an_xml_file_without_tasks_has_one() -> None:
    found = xml('<steering><parameter type="int" name="n" value="5"/></steering>'
                '<tray iter="2"><module src="/bin/echo" args="$steering(n) $args(procnum) $args(nproc)"/></tray>')  # fmt: skip
    steering = steering_of(found.text)
    assert [task.name for task in steering.tasks] == ["main"]
    assert argv(steering, "main", 3) == [["/bin/echo", "5", "3", "10"]] * 2


@pytest.mark.parametrize("tasks", [
    '<task name="a"><tray name="x"><module src="/bin/true"/></tray></task><task name="b" depends="a"><tray><module src="/bin/true"/></tray></task>',
    '<tray name="x"><module src="/bin/true"/></tray><tray name="y"><module src="/bin/true"/></tray>'
    '<taskDef name="a" id="7"><taskTray tray="0"/></taskDef><taskDef name="b"><taskTray tray="y"/><taskParent id="7"/></taskDef>',
    '<tray name="x"><module src="/bin/true"/></tray><tray name="y"><module src="/bin/true"/></tray>'
    "<taskDefs><task><name>a</name><tray>x</tray><child>b</child></task><task><name>b</name><tray>y</tray></task></taskDefs>",
    '<tray name="x"><module src="/bin/true"/></tray><task name="a"><tray name="x"/></task><task name="b" parents="a"><tray name="x"/></task>',
])  # fmt: skip
def test_tasks_and_parents_are_found_however_they_are_written(tasks: str) -> None:
    steering = steering_of(xml(tasks).text)
    assert {task.name: task.after for task in steering.tasks} == {"a": (), "b": ("a",)}


TYPED = """<tray><module name="m" class="corsika.Corsika">
      <int name="i" value="007"/> <double name="d"><value>1e3</value></double> <bool name="b" value="true"/> <string><name>s</name><value>1e3</value></string>
      <intv name="v"><value>1</value><value>$args(procnum)</value></intv> <parameter type="string" name="e">x$steering(n)</parameter>
      <OMKey name="k"><map><cvalue>3</cvalue><cvalue>9</cvalue></map></OMKey> <double name="u"><value unit="I3Units::GeV">5</value></double>
      <int name="g" value="$eval($steering(n) + 1)"/>
    </module></tray><steering><parameter type="string" name="n" value="7"/></steering>"""


def test_parameters_of_a_class_have_their_types() -> None:
    ((*start, name, text),) = argv(steering_of(xml(TYPED).text), "main", 3)
    assert (start[0], name) == ("python", "corsika.Corsika")
    assert json.loads(text) == {
        "i": 7, "d": 1000.0, "b": True, "s": "1e3", "v": [1, 3], "e": "x7", "k": ["3", "9"], "u": "5*I3Units::GeV", "g": 8,
    }  # fmt: skip


def test_a_class_that_is_written_anew_has_parameters_in_the_file() -> None:
    found = xml(TYPED, port=True)
    (one,) = table(found)["task"]["main"]["tray"][0]["module"]
    assert (one["python"], one["class"]) == ("corsika.py", "Corsika")
    assert one["params"] == {
        "i": 7, "d": 1000.0, "b": True, "s": "1e3", "v": [1, "$eval($args(job))"], "e": "x$steering(n)", "k": ["3", "9"], "u": "5*I3Units::GeV",
        "g": "$eval($steering(n) + 1)",
    }  # fmt: skip


def test_the_module_for_external_ones_names_its_file() -> None:
    found = xml('<tray><module class="i3.i3"><string name="class" value="mine.Sim"/><string name="URL" value="http://svn.org/mine/sim.py"/>'
                '<int name="n" value="1"/></module></tray>', port=True)  # fmt: skip
    (one,) = table(found)["task"]["main"]["tray"][0]["module"]
    assert one == {"python": "sim.py", "class": "Sim", "url": "http://svn.org/mine/sim.py", "params": {"n": 1}}
    marked(found, "CHECK", "http://svn.org/mine/sim.py")


def test_an_extern_runs_with_its_streams(tmp_path: Path) -> None:
    found = xml("<externs><extern><name>e</name><executable>/bin/cat</executable><arguments>-u</arguments><infile>in $args(job)</infile>"
                "<outfile>out.$args(procnum)</outfile></extern></externs>")  # fmt: skip
    (command,) = argv(steering_of(found.text), "main", 3)
    assert command[-1] == "/bin/cat -u <in 3 >out.3"


@pytest.mark.parametrize(("inside", "part"), [
    ("<mystery a='1'/>", "mystery"), ("<steering><mystery>x</mystery></steering>", "mystery"),
    ("<tray><connection><from module='a'/></connection></tray>", "connection"),
    ("<tray><module src='/a'><mystery/></module></tray>", "mystery"), ("<tray other='1'><module src='/a'/></tray>", "other"),
    ("<task name='a'><mystery/></task>", "mystery"), ("<task name='a'><tray name='none'/></task>", "none"),
    ("<tray name='unused'><module src='/a'/></tray><task name='a'><tray><module src='/b'/></tray></task>", "unused"),
    ("<steering><dependency>x.tgz</dependency></steering>", "x.tgz"), ("<tray><service name='r' class='R'/></tray>", "service"),
    ("<steering><batchopts><batchopt type='sge' name='-l' value='h_vmem=2G'/></batchopts></steering>", "h_vmem"),
])  # fmt: skip
def test_no_element_is_lost(inside: str, part: str) -> None:
    found = xml(inside + "<tray name='z'><module src='/bin/true'/></tray>")
    assert any(part in note.about for note in found.notes if note.word == "NOT CONVERTED"), words(found)
    assert part in found.text
    assert steering_of(found.text).tasks


def test_whole_numbers_that_iceprod_1_divided_are_marked() -> None:
    marked(xml("<tray><module src='/a' args='$eval($args(job)/2)'/></tray>"), "CHECK", "Python 2")


# refusals

@pytest.mark.parametrize(("text", "path", "part"), [
    ("{", "a.json", "a.json:1:2"), ("[]", "a.json", "no configuration"), ('{"tasks": []}', "a.json", "no configuration"), ("jobs = 1", "a.toml", "no JSON"),
    ("<a>", "a.xml", "a.xml:1:"), ("<steering/>", "a.xml", "<configuration>"), ("[" * 100_000, "a.json", "nested"),
    ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><configuration><description>&b;</description></configuration>', "a.xml", "no XML"),
])  # fmt: skip
def test_what_is_no_configuration_is_refused_in_a_sentence(text: str, path: str, part: str) -> None:
    with pytest.raises(BadInput) as raised:
        convert(text, path)
    assert part in raised.value.message


def test_a_wrong_shape_is_said_with_its_place() -> None:
    with pytest.raises(BadInput) as raised:
        convert(json.dumps({"tasks": [{"name": "a", "trays": [{"modules": {}}], "data": [5]}, 7], "steering": {"parameters": []}}), "a.json")
    assert raised.value.mistakes == (
        "a.json: steering.parameters: a table is expected", "a.json: tasks[0].data[0]: a table is expected",
        "a.json: tasks[0].trays[0].modules: a list is expected", "a.json: tasks[1]: a table is expected",
    )  # fmt: skip
