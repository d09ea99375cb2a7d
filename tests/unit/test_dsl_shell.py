"""Expressions in string commands: where they may stand, and the right form where they may not."""

from __future__ import annotations

import pytest

from icp.dsl.command import compile_command
from icp.dsl.expressions import Compiler, Place
from icp.dsl.syntax import BadExpression
from icp.dsl.values import JobContext, Scope


def rendered(text: str, **row: object) -> str:
    compiled = compile_command(text, Compiler({}, row), Place("t", "command"))
    return str(compiled.run(Scope(JobContext("d", 1, 2, 3, row), "t")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x $args(n) --n=$args(n)", "x 5 --n=5"),
        ("x $args(w) --w=$args(w);", "x plain --w=plain;"),
        ("x $args(s) --s=$args(s)", "x 'a b' --s='a b'"),
        ("x $args(q)", "x 'it'\"'\"'s'"),
        ("x $args(empty)", "x ''"),
        ("x $args(n)>out", "x '5'>out"),
        ("$args(if) $args(w)=1", "'if' 'plain'=1"),
        ("x $HOME$args(n)", "x $HOME'5'"),
        ("x ~$args(w)", "x ~'plain'"),
        ("x '$$args(n)' $args(n) # $args(s", "x '$args(n)' 5 # $args(s"),
        ('x "$(cat $args(s))"', "x \"$(cat 'a b')\""),
    ],
)
def test_an_expression_is_one_word(text: str, expected: str) -> None:
    if text.endswith("$args(s"):
        with pytest.raises(BadExpression):
            rendered(text.replace("# ", ""), s="a b", n=5)
    row = {"n": 5, "w": "plain", "s": "a b", "q": "it's", "empty": "", "if": "if"}
    assert rendered(text, **row) == expected


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('x "a $args(n) b"', 'write "a "$args(n)" b"'),
        ('x "$args(n)"', "write $args(n)"),
        ("x '--n=$args(n),$args(n)'", "write '--n='$args(n)','$args(n)"),
        ("cat <<EOF\n$args(n)\nEOF", "x=$args(n), and write $x there"),
        ("x `y $args(n)`", "write $( ... ) instead"),
        ("x ${y:-$args(n)}", "give it to a variable first: x=$args(n)"),
        ("x $((1 + $args(n)))", "compute with $eval(...)"),
        ("x \\$args(n)", "$$args(n) is this text itself"),
        ("x $(case a in a) y;; esac) $args(n)", "there is a 'case' inside $( ... )"),
        ("cat <<EOF\nx\nEO\necho $args(n)", "it stands in a here-document|does not end with a line EOF"),
    ],
)
def test_elsewhere_the_mistake_shows_the_right_form(text: str, form: str) -> None:
    with pytest.raises(BadExpression) as caught:
        rendered(text, n=5)
    assert any(part in caught.value.reason for part in form.split("|"))


def test_all_mistakes_of_a_command_are_told() -> None:
    with pytest.raises(BadExpression) as caught:
        rendered("x '$args(n)' $args(m) \"$args(o)\" $eval(1/)", n=5)
    assert [one.expression for one in caught.value.all] == ["$args(n)", "$args(o)", "$args(m)", "$args(o)", "$eval(1/)"]


def test_a_nul_is_refused() -> None:
    with pytest.raises(BadExpression, match="NUL"):
        rendered("x $args(n)", n="a\0b")
