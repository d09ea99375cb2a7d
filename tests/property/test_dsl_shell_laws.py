"""Whatever a value holds, it arrives byte for byte through string and list commands, and runs nothing: asked of real shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icp.dsl.command import compile_module
from icp.dsl.expressions import Compiler
from icp.dsl.syntax import BadExpression
from icp.dsl.values import JobContext, Scope
from icp.model.definition import Module

SHELLS = ["/bin/sh", *(path for name in ("bash", "dash") if (path := shutil.which(name)))]
PARTS = [
    "'", '"', "\\", "\n", " ", "$", "`", ";", "#", "-", "--", "$(: > pwned)", "`: > pwned`", "; : > pwned;", "\n: > pwned\n", "' ; : > pwned '",
    '"; : > pwned; "', "EOF", "\nEOF\n: > pwned\n", "*", "~", "{a,b}", "!", "&", "|", ">pwned", "(", ")", "if", "do", "0", "12", "a=b", "$args(x)",
    "$$args(x)", "%s", "\\0", "é日本", "\t", "\r", "in", "2", "${x}", "$((1", "))", "}", "\x7f", "\x01", "]", "[", "..",
]  # fmt: skip
values = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)

WANTED: dict[str, Any] = {
    r"printf '%s\0' $args(x) $args(y)": lambda x, y: [x, y],
    r"printf '%s\0' --out=$args(x).root a/$args(y)": lambda x, y: [f"--out={x}.root", f"a/{y}"],
    r"printf '%s\0' a$args(x)$args(y)b": lambda x, y: [f"a{x}{y}b"],
    "x=$args(x)\ny=$args(y); printf '%s\\0' \"$x\" \"$y\"": lambda x, y: [x, y],
    r"""printf '%s\0' "$(printf '%s.' $args(x))" '|' "$(printf '%s.' "a"$args(y)' b')" """: lambda x, y: [f"{x}.", "|", f"a{y} b."],
    "# it's $args(x) \"here\nprintf '%s\\0' $args(x) # don't `$args(y)": lambda x, y: [x],
    ": <<EOF; printf '%s\\0' $args(x)\nit's \"$HOME\nEOF\nprintf '%s\\0' $args(y)": lambda x, y: [x, y],
    ": <<-'E F'\n\t\"it's\n\tE F\nprintf '%s\\0' $args(x)": lambda x, y: [x],
    r"case z in z) printf '%s\0' $args(x) ;; esac; if :; then printf '%s\0' $args(y); fi": lambda x, y: [x, y],
    r"F=1; printf '%s\0' $F$args(x) $F.$args(y) \ $args(x)": lambda x, y: [f"1{x}", f"1.{y}", f" {x}"],
    "printf '%s\\0' \\\n$args(x) a\\\n $args(y) &&\\\n# it's\n :": lambda x, y: [x, "a", y],
    r"""printf '%s\0' "a \" b"$args(x)'c \'$args(y) '$$args(y)'""": lambda x, y: [f'a " b{x}c \\{y}', "$args(y)"],
    r"printf '%s\0' ${NONE:-'it}'} $args(x) $((1 + (2))) $args(y)": lambda x, y: ["it}", x, "3", y],
}  # fmt: skip


def argv(command: str | tuple[str, ...], x: str, y: str) -> list[Any]:
    compiled = compile_module(Module(command), Compiler({}, ["x", "y"]), "t", "tray.0.module.0")
    return list(compiled.run(Scope(JobContext("d", 1, 2, 3, {"x": x, "y": y}), "t")))


def run(args: list[str], folder: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        args, cwd=folder, env={"PATH": folder}, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL
    )


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(sorted(WANTED)), values, values, st.sampled_from(SHELLS))
def test_a_value_is_one_word_of_the_shell(command: str, x: str, y: str, shell: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = run([shell, *argv(command, x, y)[1:]], folder)
        assert done.stderr == b""
        assert done.returncode == 0
        assert done.stdout == "".join(f"{word}\0" for word in WANTED[command](x, y)).encode()
        assert list(Path(folder).iterdir()) == []


FRAGMENTS = [
    "$args(x)", "$args(x)", "'", '"', "`", "\\", " ", " ", "\n", "#", "$(", ")", "(", "${F:-", "}", "$((", "))", "<<EOF\n", "<<-'EOF'\n", "\nEOF\n",
    "<<<", "echo ", ": ", "case a in a) ", ";; esac ", "if : ; then ", "fi ", "$", "$'", '$"', ";", "&&", "|", "{ ", "; } ", "F=", "a", "1", "$F", "$$", "<<",
    "\\\n", " \\\n", "<\\\n<EOF\n", "$\\\n(", "\\\nEOF\n", "case ",
]  # fmt: skip
hostile = st.permutations(
    [
        "'",
        '"',
        "`",
        "\n",
        ")",
        "}",
        "\nEOF\n",
        "$(: > pwned)",
        "`: > pwned`",
        ";: > pwned;",
        "\n: > pwned\n",
        "\\",
        "))",
        "#",
        " ",
    ]
).flatmap(lambda parts: st.integers(1, len(parts)).map(lambda n: "".join(parts[:n])))


@settings(deadline=None, max_examples=400)
@example(": \\\n# $args(x)", "\n: > pwned", "/bin/sh")
@example(": <\\\n<EOF\n$args(x)", "'$(: > pwned)", "/bin/sh")
@example(": <<EOF\na\\\nEOF\n$args(x)", "'$(: > pwned)", "/bin/sh")
@example(': "$\\\n(: "$args(x)")"', "'$(: > pwned)", "/bin/sh")
@example(': $(:;\\\ncase a in a) : " $args(x) ";; esac)', "'$(: > pwned)", "/bin/sh")
@example("$args(x)#<<EOF\n$args(x)", "'$(: > pwned)", "/bin/sh")
@example("$(:)#<<EOF\n$args(x)", "'$(: > pwned)", "/bin/sh")
@example("$((1))#<<EOF\n$args(x)", "'$(: > pwned)", "/bin/sh")
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=14).map("".join), hostile, st.sampled_from(SHELLS))
def test_in_any_command_a_value_runs_nothing(text: str, x: str, shell: str) -> None:
    try:
        args = argv(text, x, "")
    except BadExpression as error:
        assert error.reason
        return
    if "$args(x)" not in text:
        return
    with tempfile.TemporaryDirectory() as folder:
        run([shell, *args[1:]], folder)
        assert not (Path(folder) / "pwned").exists(), (args, shell)


@settings(deadline=None, max_examples=200)
@given(values, values)
def test_a_list_passes_values_as_they_are(x: str, y: str) -> None:
    assert argv(("a b", "$args(x)", "--out=$args(x)$args(y).root", "$$args(x)", "$HOME '", ""), x, y) == [
        "a b", x, f"--out={x}{y}.root", "$args(x)", "$HOME '", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["-rf; : > pwned", "a\nb 'c' \"d\" $(: > pwned) `: > pwned` é\\", "", "--", "$args(x)"]
)
def test_an_argument_of_a_real_program_is_the_value(value: str, tmp_path: Path) -> None:
    program = "import sys; sys.stdout.buffer.write('\\0'.join(sys.argv[1:]).encode('utf-8', 'surrogateescape'))"
    (tmp_path / "show.py").write_text(program)
    text = argv(f"{sys.executable} -I -X utf8 show.py -- $args(x) --out=$args(x)", value, "")
    plain = argv((sys.executable, "-I", "-X", "utf8", "show.py", "--", "$args(x)", "--out=$args(x)"), value, "")
    for args in (text, plain):
        assert run(args, str(tmp_path)).stdout == f"--\0{value}\0--out={value}".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["show.py"]
