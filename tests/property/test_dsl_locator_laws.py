"""The locator finds every key of any valid TOML text where it stands, and no other: tomli says which keys there are."""

from __future__ import annotations

import re
from typing import Any

import tomli
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icp.dsl.locator import KeyPath, locate

SCALARS = [
    "1", "-10_000", "0xff", "1.5e3", "inf", "true", "1979-05-27", "1979-05-27 07:32:00", "1979-05-27T07:32:00.5Z", "07:32:00",
    '""', "''", '"a # b"', "'a # [x]'", r'"\" = {"', r"'\'", '"""one"""', "'''one'''", '"""\nx = 1\n[t]\n"""', "'''\n''\n[[t]]'''",
    '""""quoted""""', "''''x'''''", r'"""a \""" b\\"""', '"""a \\\n   b"""', '"é\\u00e9 日本"',
]  # fmt: skip
KEYS = ["a", "b", "c-d", "1", "x_y", '"quoted key"', "'single'", '"a.b"', r'"\" ] ="', "'# no'", '""', '"é"']
BLANKS = ["", " ", "\t "]
GAPS = ["", " ", "\n", '\n  # comment ] } "\n', "\n\t"]

keys = st.sampled_from(KEYS)
blanks = st.sampled_from(BLANKS)


@st.composite
def dotted(draw: Any) -> str:
    parts = draw(st.lists(keys, min_size=1, max_size=3))
    return (draw(blanks) + "." + draw(blanks)).join(parts)


def _array(items: list[str], gaps: list[str], trailing: bool) -> str:
    text = "".join(f"{gap}{item}{gap}," for item, gap in zip(items, gaps * 9, strict=False))
    return "[" + (text if trailing else text[:-1]) + gaps[0] + "]"


values = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.builds(
            _array, st.lists(inner, max_size=4), st.lists(st.sampled_from(GAPS), min_size=1, max_size=3), st.booleans()
        ),
        st.lists(st.tuples(dotted(), inner), max_size=3).map(
            lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
        ),
    ),
    max_leaves=6,
)
pair = st.builds(
    lambda indent, key, before, after, value, end: f"{indent}{key}{before}={after}{value}{end}",
    blanks, dotted(), blanks, blanks, values, st.sampled_from(["", " # comment = 1", "\t"]),
)  # fmt: skip
header = st.builds(
    lambda indent, array, key, end: f"{indent}{'[[' if array else '['} {key} {']]' if array else ']'}{end}",
    blanks, st.booleans(), dotted(), st.sampled_from(["", " # [x]"]),
)  # fmt: skip
comment = st.sampled_from(["", "# [not] = a table", "   "])


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found: set[KeyPath] = {path} if path else set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= _paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found |= _paths(item, (*path, index))
    return found


KEY = re.compile(r"'[^'\n]*'|\"(?:\\.|[^\"\\\n])*\"|[A-Za-z0-9_-]+")


def check(text: str) -> None:
    data = tomli.loads(text)
    found = locate(text)
    assert set(found) == _paths(data)
    lines = text.split("\n")
    for path, (line, column) in found.items():
        if isinstance(path[-1], str):
            match = KEY.match(lines[line - 1], column - 1)
            assert match is not None
            assert list(tomli.loads(f"{match.group()} = 1")) == [path[-1]]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(pair, header, comment), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_every_key_of_any_valid_text_is_found(lines: list[str], end: str) -> None:
    kept: list[str] = []
    for line in lines:
        # keys that clash with earlier ones make no valid text: leave them out
        try:
            tomli.loads("\n".join([*kept, line]))
        except tomli.TOMLDecodeError:
            continue
        kept.append(line)
    text = "\n".join(kept).replace("\n", end)
    assume(kept)
    check(text)


def test_a_table_stands_where_it_is_first_named() -> None:
    text = 'x = 1\r\n[task.a]\ny = [1,\n  "b"] # c\n[[task.a.tray]]\n[[task.a.tray]]\n  z.w = { q = 2 }\n'
    check(text)
    assert locate(text) == {
        ("x",): (1, 1),
        ("task",): (2, 2),
        ("task", "a"): (2, 7),
        ("task", "a", "y"): (3, 1),
        ("task", "a", "y", 0): (3, 6),
        ("task", "a", "y", 1): (4, 3),
        ("task", "a", "tray"): (5, 10),
        ("task", "a", "tray", 0): (5, 10),
        ("task", "a", "tray", 1): (6, 10),
        ("task", "a", "tray", 1, "z"): (7, 3),
        ("task", "a", "tray", 1, "z", "w"): (7, 5),
        ("task", "a", "tray", 1, "z", "w", "q"): (7, 11),
    }
