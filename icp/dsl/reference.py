"""The JSON Schema and the reference page of steering files, from the one list of keys (hides both notations)."""

from __future__ import annotations

from typing import Any

from icp.dsl.arithmetic import CONSTANTS, FUNCTIONS
from icp.dsl.expressions import ARGS
from icp.dsl.kinds import Kind, ListOf, MapOf, OneOf, Scalar, Table
from icp.dsl.names import NAME
from icp.dsl.schema import FINAL, JOBS, MODULE, OUTPUT, RESOURCES, SOFTWARE, TARBALL, TASK, TOP, TRAY, URL_INPUT
from icp.dsl.values import NODE_NAMES

__all__ = ["json_schema", "reference"]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a steering file, for editors; what it cannot say `icp validate` does."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "icp steering file",
        **_json(TOP),
    }


def _json(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, Scalar):
        return dict(kind.json)
    if isinstance(kind, ListOf):
        found: dict[str, Any] = {"type": "array", "items": _json(kind.item)}
        return {**found, "minItems": kind.least} if kind.least else found
    if isinstance(kind, OneOf):
        return {"anyOf": [_json(choice) for choice in kind.kinds]}
    if isinstance(kind, MapOf):
        pattern = "^" + kind.pattern.pattern.replace("\\Z", "$")
        return {"type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": _json(kind.item)}
    properties = {}
    for name, key in kind.keys.items():
        about = key.doc.replace("`", "") + (f" Default: {key.default}." if key.default else "")
        properties[name] = {**_json(key.kind), "description": about}
    required = [name for name, key in kind.keys.items() if key.required]
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**result, "required": required} if required else result


_INTRODUCTION = """# Steering files

<!-- Generated from icp/dsl by docs/generate_steering.py; a test keeps it so. -->

A steering file is TOML and describes a dataset. Three lines are one:

```toml
jobs    = 200
command = "python3 sim.py --seed $args(seed) --out hist.json"
outputs = ["hist.json"]
```

`icp validate FILE` reports every mistake with file, line and column; `icp expand FILE --job N` shows what a job
will run; `icp graph FILE` draws its tasks; `icp schema` prints a JSON Schema for editors; `icp new` prints a file
to start from.
"""

_EXPRESSIONS = """## Expressions

`$name(...)` with one of the names below is an expression, almost everywhere; any other `$` is left alone. `$$name(`
is the text `$name(`. Expressions stand inside one another, and in the values of `[steering]`. A value that is one
single expression keeps its type. All are evaluated on the submitting machine when a card is made, and give the same
there every time.

| expression | value |
| --- | --- |
| `$args(x)` | what the job knows, see below |
| `$steering(x)` | a variable of `[steering]`, which may hold expressions itself |
| `$system(x)` | the site's `[site.NAME.system]` table, and `site`, its name; `tmp`, `scratch` and `platform` are filled in by the node |
| `$attr(x)` | an attribute of the site |
| `$eval(expr)` | arithmetic, see below |
| `$sprintf(fmt, a, b)` | C's formatting: `%d i u o x X e E f F g G s`, widths up to 200 |
| `$choice(a, b, c)` | one of them, or of a list variable |

`$system` and `$attr` have no value in outputs, resources and `group_by`, which are the same at every site. Parts of
`$sprintf` and `$choice` may have quotes around them; blanks around parts do not count.
"""

_EVAL = """### $eval

Numbers, texts in quotes, `+ - * / // % **`, comparisons (also chained, and `in (1, 2)`), `and or not`, `a if b else
c`, the functions {functions} and the names {constants}. Expressions inside stand without quotes: `$eval($args(job)
// 100)`, and a text that reads as a number is that number. Nothing else exists. Whole numbers have at most 4096
bits, texts 10,000 characters.

### $choice and $args(seed)

Both follow from the dataset's seed, which is random at submit unless the file gives one, and recorded.

    seed   = int.from_bytes(sha256(b"%d\\0%d\\0%s" % (dataset_seed, job, task)).digest()[:8], "big") >> 1
    choice = int.from_bytes(sha256(b"choice\\0%d\\0%d\\0%s\\0%s\\0%d"
                                   % (dataset_seed, job, task, field, position)).digest()[:8], "big") % n

A final task has job = -1 - (index of its group). In `[steering]` the task is empty and the field is the variable's
name, so all tasks of a job see the same draw; elsewhere the field is the key path in the long form (`outputs.0`,
`resources.memory`, `tray.0.module.0.command`, and `tray.0.module.0.command.2` in a list) and the position counts
the choices in that text from 0. A choice has the same result in every attempt, at every site.
"""

_COMMANDS = """## Commands

Text runs under `/bin/sh -e`. An expression is inserted there as one word, with quotes around it where they are
needed, so any value arrives as it is and runs nothing; also next to other text: `--out=$args(job).root`. Inside
quotes, here-documents, `${...}`, `$((...))` and backquotes it is a mistake, and the message shows the right form:
`"a $args(x) b"` becomes `"a "$args(x)" b"`. In a comment nothing is an expression. `$(...)`, `$VAR`, `$$` and
everything else belong to the shell, also the `$` of a literal `$name(`: put it in single quotes.

A list runs without a shell; each text is one argument, and values are inserted as they are.

A script named in a command that lies beside the steering file and is not in `files` gives a warning.
"""

_REQUIREMENTS = """## Requirements

Comparisons (`== != < <= > >=`) of `$attr(NAME)` with constants, joined by `and or not` or `&& || !` and brackets;
`$attr(NAME)` alone means that it is true. Constants are numbers, texts in quotes, `true`, `false`, and expressions
without `$attr` and `$system`. A comparison with an attribute that nobody knows is false, also behind `not`; only
`not $attr(NAME)` is true then. Numbers, texts, and true and false are never equal to one another. `gpus` of 1 or
more add `$attr(HasGPU)`; a task that states nothing needs `$attr(CPU)`. What would need more than 64 alternatives
is a mistake.
"""

_UNITS = """## Units

Sizes: `B`, `kB`, `MB`, `GB`, `TB`, `PB` (powers of 1000), `KiB`, `MiB`, `GiB`, `TiB`, `PiB` (powers of 1024); a
bare number is MB. Durations: `s`, `min`, `h`, `d`, or `hours:minutes:seconds`; a bare number is seconds. After a
failure for lack of resources memory, disk and time grow by half.
"""


def reference() -> str:
    """The reference page, docs/steering.md."""
    parts = [_INTRODUCTION]
    parts.append(
        _section("Keys of the file", TOP, "The keys of a task at the top of the file make the only task, named `main`.")
    )
    parts.append(_section("[task.NAME]", TASK, f"`NAME` matches `{NAME.pattern[:-2]}`."))
    parts.append(
        _section("[final.NAME]", FINAL, "A final task has the keys of a task, and:", only=("inputs", "group_by"))
    )
    parts.append(_section("Trays and modules: [[task.NAME.tray]]", TRAY, ""))
    parts.append(_section("[[task.NAME.tray.module]]", MODULE, ""))
    parts.append(_section("resources", RESOURCES, "All may be expressions."))
    parts.append(_section("An input by URL", URL_INPUT, "All may be expressions; docs/transfers.md says how it is fetched."))
    parts.append(_section("An output as a table", _table_of(OUTPUT), ""))
    parts.append(_section("jobs", _table_of(JOBS), "A number, or one of:"))
    parts.append(_section("[software.NAME]", SOFTWARE, "docs/software.md shows them at work. Texts may hold `$steering`, `$attr` and `$system` of the site."))
    parts.append(_section("[[software.NAME.tarball]]", TARBALL, ""))
    parts.append(_EXPRESSIONS)
    names = [f"| `$args({name})` | {doc} |" for name, doc in ARGS.items()]
    names.append("| `$args(COLUMN)` | a column of a scan or a CSV file; text as it stands there in a CSV file |")
    parts.append("\n".join(["### $args", "", "| | |", "| --- | --- |", *names, ""]))
    functions = ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))
    parts.append(_EVAL.format(functions=functions, constants=", ".join(f"`{name}`" for name in CONSTANTS)))
    parts.append(_COMMANDS)
    variables = ", ".join(f'`$system({name})` is `"$ICP_{name.upper()}"`' for name in NODE_NAMES)
    parts.append(f"What only the node knows is an environment variable in text commands: {variables}.\n")
    parts += [_REQUIREMENTS, _UNITS]
    return "\n".join(parts)


def _table_of(kind: Kind) -> Table:
    assert isinstance(kind, OneOf)
    return next(choice for choice in kind.kinds if isinstance(choice, Table))


def _section(title: str, table: Table, text: str, only: tuple[str, ...] = ()) -> str:
    lines = [f"## {title}", ""]
    if text:
        lines += [text, ""]
    lines += ["| key | value | default | |", "| --- | --- | --- | --- |"]
    for name, key in table.keys.items():
        if only and name not in only:
            continue
        doc = key.doc
        if key.examples:
            doc += (
                " Example" + ("s" if len(key.examples) > 1 else "") + ": " + ", ".join(f"`{e}`" for e in key.examples)
            )
        default = "required" if key.required else key.default
        cells = [f"`{name}`", key.kind.expected, default, doc]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])
