"""Converted expressions have the values that IceProd's own parser gives them: recorded always, and asked where IceProd is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from icp.dsl.foreign.iceprod import convert
from icp.dsl.steering import parse
from tests.iceprod_said import ICEPROD, WITHOUT, argv, iceprod_says, iceprod_schema, steering_of

RECORDED = Path(__file__).parent.parent / "golden" / "iceprod" / "expressions.json"
STEERING: dict[str, Any] = {
    "one": 1, "seven": 7, "quarter": 0.25, "minus": -3, "text": "muon", "blank": "a b", "yes": True, "no": False, "padded": "007", "digits": "12",
    "CORSIKA::seed": "$eval($steering(seven)*1000 + $(job))", "outfile": "x.$sprintf('%06d',$(job)).i3", "alias": "$steering(text)",
    "members": [10, 20, 30], "words": ["a", "b"], "mixed": [1, "$(job)", 2.5], "year": 2023, "TARGET::2023": "gsiftp://x/$steering(year)",
    "nested": {"key": "value", "number": 4}, "sum": "$sum($steering(members))",
}  # fmt: skip
JOB = 17
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:iceprod")  # its parser asks for ast.Num


def config(args: list[Any]) -> dict[str, Any]:
    module = {"src": "/bin/echo", "args": args, "env_clear": False, "parameters": {"own": "$steering(one)2", "seven": 8}}
    task = {"name": "t", "trays": [{"modules": [module]}]}
    return {"version": 3.1, "description": "d", "options": {"jobs_submitted": 40, "dataset": 21002}, "steering": {"parameters": STEERING}, "tasks": [task]}


def ours(args: list[Any]) -> list[str]:
    converted = convert(json.dumps(config(args)), "d.json")
    (found,) = argv(steering_of(converted.text), "t", JOB)
    assert found[0] == "/bin/echo"
    return found[1:]


def theirs(args: list[Any]) -> list[str]:
    """As IceProd 3 writes its script: a list of arguments, each parsed, each as text."""
    given = config(args)
    given["options"].update(job=JOB, task="t", iter=0, input="", output="")
    own = {**STEERING}
    for name, value in STEERING.items():
        own[name] = iceprod_says(value, given, own)
    module = given["tasks"][0]["trays"][0]["modules"][0]["parameters"]
    own.update(module)
    for name, value in module.items():
        own[name] = iceprod_says(value, given, own)
    return [str(iceprod_says(one, given, own)) for one in args]


def cases() -> list[tuple[str, str]]:
    return [(text, value) for text, value in json.loads(RECORDED.read_text())]


@pytest.mark.parametrize(("text", "value"), cases(), ids=[text for text, _ in cases()])
def test_an_expression_has_the_value_that_iceprod_recorded(text: str, value: str) -> None:
    assert ours([text]) == [value]


@pytest.mark.skipif(not ICEPROD, reason=WITHOUT)
def test_what_is_recorded_is_what_iceprod_says() -> None:
    assert dict(cases()) == {text: theirs([text])[0] for text, _ in cases()}


NUMBERS = st.one_of(
    st.integers(0, 9999).map(str), st.sampled_from(["0.5", "2.25", "1e3"]),
    st.sampled_from(["$(job)", "$args(job)", "$options(jobs_submitted)", "$(jobs_submitted)", "$steering(seven)", "$(seven)", "$steering(quarter)", "$(minus)",
                     "$steering(CORSIKA::seed)", "$steering(members)[1]", "$steering(members)[$(iter)]", "$len($steering(members))", "$max($steering(members))",
                     "$sum($(members))", "$(dataset)", "$steering(digits)"]),
)  # fmt: skip
EVALS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", " + ", " - "]), inner).map(lambda three: f"$eval({''.join(three)})"),
        st.tuples(inner, st.sampled_from(["//", "%", "/"]), st.integers(1, 9)).map(lambda three: f"$eval(({three[0]}){three[1]}{three[2]})"),
    ),
    max_leaves=5,
)
FORMATS = st.one_of(
    st.tuples(st.sampled_from(["%d", "%i", "%.2f", "%g", "x%d", "%d_y"]), st.sampled_from(["", "'", '"']), EVALS).map(
        lambda three: f"$sprintf({three[1]}{three[0]}{three[1]},{three[2]})"
    ),
    # not of negative numbers: IceProd reads -001, where it stands alone, as -1.0
    st.tuples(st.sampled_from(["%04d", "'%09d'"]), st.sampled_from(["$(job)", "7", "$steering(seven)", "$(dataset)"])).map(
        lambda two: f"$sprintf({','.join(two)})"
    ),
    st.tuples(EVALS, EVALS).map(lambda two: f'$sprintf("%d-%07d.i3", {two[0]},{two[1]})'),
    st.sampled_from(["$steering(text)", "'a'", '"b"', "a", " c", "$(outfile)"]).map(lambda arg: f"$sprintf('%s.%s',{arg},$(task))"),
)
TEXTS = st.one_of(
    EVALS, FORMATS,
    st.sampled_from(["$steering(text)", "$(alias)", "$steering(outfile)", "$steering(yes)", "$(no)", "$steering(padded)", "$(own)", "$steering(blank)",
                     "$steering(TARGET::$steering(year))", "$steering(words)[0]",
                     "$steering(nested)[key]", "$steering(unknown)", "$nothing(x)", "$(description)"]),
)  # fmt: skip
PLAIN = st.text("abcXYZ019.-/:+ ", max_size=8)  # not 17_0, which IceProd reads as Python's 170.0
ARGUMENTS = st.lists(st.one_of(TEXTS, PLAIN), min_size=1, max_size=4).map("".join)


@pytest.mark.skipif(not ICEPROD, reason=WITHOUT)
@given(st.lists(st.one_of(TEXTS, ARGUMENTS), min_size=1, max_size=3))
def test_arguments_are_those_of_iceprod(args: list[str]) -> None:
    assert ours(args) == theirs(args)


@pytest.mark.skipif(not ICEPROD, reason=WITHOUT)
@given(st.lists(st.sampled_from([*"$()[]a1 '\",%", "$(job)", "$eval("]), max_size=12).map("".join))
def test_no_text_is_read_otherwise_than_by_iceprod(text: str) -> None:
    """Brackets, quotes and dollars anywhere: what IceProd cannot parse is left as it is; what we cannot, is marked."""
    assume(not re.search(r"\$\w+(?![\w(])", text))  # a variable of the environment: the shell puts it in
    try:
        said = theirs([text])
    except TypeError:  # IceProd itself ends here, on "$("
        reject()
    lost = [note for note in convert(json.dumps(config([text])), "d.json").notes if note.word == "NOT CONVERTED"]
    assert lost or ours([text]) == said


@given(st.lists(st.sampled_from(["red", "green", "10", "blue sky", "$(job)", "$steering(text)"]), min_size=1, max_size=4))
def test_a_choice_is_one_of_its_members(members: list[str]) -> None:
    (found,) = ours([f"$choice({','.join(members)})"])
    assert found in [{"$(job)": "17", "$steering(text)": "muon"}.get(one, one) for one in members]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4), st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4))
def test_whatever_stands_in_parameters_gives_a_file_that_validates(parameters: dict[str, Any], args: dict[str, Any]) -> None:
    given = config([])
    given["steering"]["parameters"] = parameters
    given["tasks"][0]["trays"][0]["modules"][0].update(args=args, running_class="a.B", src="")
    assert parse(convert(json.dumps(given), "d.json").text, "converted.toml").tasks


NAME = st.text("ab_:. -", min_size=1, max_size=5)
FILE = st.one_of(st.sampled_from(["a.i3", "b.i3", "$(job).i3", "$steering(outfile)", "dir/c.i3"]), st.text("abc[]*$./", min_size=1, max_size=6))
DATUM = st.fixed_dictionaries({}, optional={
    "remote": st.one_of(FILE, st.sampled_from(["gsiftp://e.org/x", "$steering(TARGET::2023)/y"])), "local": FILE,
    "type": st.sampled_from(["permanent", "job_temp", "dataset_temp", "site_temp"]), "movement": st.sampled_from(["input", "output", "both"]),
    "transfer": st.sampled_from([True, False, "maybe", "yes", "no", 1, 0]),
})  # fmt: skip
PARAMETERS = st.dictionaries(NAME, st.one_of(TEXTS, PLAIN, st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3)), max_size=3)
ARGS = st.one_of(PLAIN, ARGUMENTS, st.lists(TEXTS, max_size=3), st.dictionaries(NAME, st.one_of(TEXTS, st.none(), st.booleans(), st.integers()), max_size=3))
MODULE = st.fixed_dictionaries({}, optional={
    "name": NAME, "parameters": PARAMETERS, "args": ARGS, "src": st.sampled_from(["/x/a.py", "a.sh", "https://e.org/s.py", "$steering(text)", ""]),
    "running_class": st.sampled_from(["", "a.b.C"]), "env_shell": st.sampled_from(["", "/cvmfs/e.org/env x/v1", "/other/env", "$(text)/env"]),
    "env_clear": st.booleans(), "configs": st.dictionaries(st.sampled_from(["c.json", "d.json"]), PARAMETERS, max_size=1), "data": st.lists(DATUM, max_size=1),
})  # fmt: skip
TRAY = st.fixed_dictionaries({"modules": st.lists(MODULE, min_size=1, max_size=3)}, optional={
    "name": NAME, "iterations": st.integers(0, 3), "parameters": PARAMETERS,
})  # fmt: skip
BATCH = st.dictionaries(st.sampled_from(["requirements", "request_memory", "rank"]), PLAIN, max_size=2)
NEEDS = st.fixed_dictionaries({}, optional={
    "cpu": st.integers(1, 64), "gpu": st.integers(0, 4), "memory": st.one_of(st.floats(0.5, 512), st.sampled_from(["$eval(1+$(job))", "4"])),
    "disk": st.integers(1, 100), "time": st.floats(0.1, 100), "os": st.lists(st.sampled_from(["RHEL_8", "RHEL_9"]), max_size=2), "site": st.just("x"),
})  # fmt: skip
TASK = st.fixed_dictionaries({"trays": st.lists(TRAY, min_size=1, max_size=2)}, optional={
    "data": st.lists(DATUM, max_size=3), "requirements": NEEDS, "parameters": PARAMETERS,
    "batchsys": st.dictionaries(st.sampled_from(["condor", "pbs"]), BATCH, max_size=2),
})  # fmt: skip


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    tasks = draw(st.lists(TASK, min_size=1, max_size=3))
    for number, task in enumerate(tasks):
        task["name"] = f"task {number}"
        task["depends"] = [f"task {one}" for one in draw(st.sets(st.integers(0, number - 1)))] if number else []
    steering = {"parameters": {**STEERING, **draw(PARAMETERS)}, "data": draw(st.lists(DATUM, max_size=1)), "batchsys": {}}
    return {"version": 3.1, "description": draw(PLAIN), "options": {"jobs_submitted": 40, "dataset": 1}, "steering": steering, "tasks": tasks}


@pytest.mark.long
@given(configurations())
def test_whatever_iceprod_3_accepts_becomes_a_file_that_validates(given: dict[str, Any]) -> None:
    if ICEPROD:
        jsonschema.validate(given, iceprod_schema())
    found = convert(json.dumps(given), "d.json")
    steering = steering_of(found.text)
    for task in given["tasks"]:
        ours = next(one for one in steering.tasks if one.name == task["name"].replace(" ", "-"))
        assert {name.replace(" ", "-") for name in task["depends"]} <= set(ours.after)
