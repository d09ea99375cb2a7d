"""``icp new``: a short commented steering file to start from (hides the examples' texts)."""

from __future__ import annotations

from typing import Annotated

import typer

from icp.dsl.syntax import nearest
from icp.errors import NotFound

__all__ = ["EXAMPLES", "new"]

_SIMPLE = """\
# A dataset: 10 jobs that run one command each. Try: icp expand steering.toml --job 3
name    = "first"
jobs    = 10                    # or jobs.scan = { energy = [1, 10], seed = 5 }, jobs.csv = "runs.csv", jobs.files = "data/*.i3"
command = "echo job $args(job) of $args(jobs) has seed $args(seed) > result.txt"
outputs = ["result.txt"]        # comes home to outputs/first/<job>/result.txt

# files = ["sim.py"]            # files and folders beside this one that the command needs
# max_tries = 3                 # failures after which a task has failed
# requirements = "$attr(OS) == 'el9'"

[resources]                     # all of these are the defaults
cpus   = 1
memory = "2 GB"
disk   = "1 GB"
time   = "1 h"
"""

_DAG = """\
# A dataset whose jobs have two tasks, and a final task over all jobs. Try: icp graph steering.toml
name = "two-steps"
jobs.scan = { energy = [1, 10, 100], run = 4 }     # 12 jobs; $args(energy), $args(run); run counts from 0 and is the fastest

[steering]                                         # variables: $steering(name)
particle = "$choice(proton, iron)"                 # the same for all tasks of a job

[task.generate]
command = "echo $steering(particle) at $args(energy) TeV, seed $args(seed) > events.txt"
outputs = ["events.txt"]

[task.count]
inputs  = ["generate:events.txt"]                  # so it runs after generate
command = "wc -c < events.txt > size.txt"
outputs = ["size.txt"]

[final.merge]
inputs  = ["count:size.txt[*]"]                    # those of all jobs; inputs.list names them
command = "while read -r file; do cat \\"$file\\"; done < inputs.list > all.txt"
outputs = ["all.txt"]
"""

_LONG = """\
# One task in the long form: trays of modules that run in order, a tray several times. Try: icp expand steering.toml
name = "trays"
jobs = 4

[task.simulate]
outputs   = ["part-*.txt", { name = "notes.txt", optional = true, keep = true }]
resources = { memory = "$eval(500 + 100 * $args(job))", time = "30 min" }    # evaluated for each job

  [[task.simulate.tray]]
  iterations = 3

    [[task.simulate.tray.module]]
    command = "echo $args(iter) > $sprintf('part-%03d.txt', $args(iter))"

    [[task.simulate.tray.module]]
    command = ["ls", "-l", "$sprintf('part-%03d.txt', $args(iter))"]         # a list runs without a shell
"""

EXAMPLES = {"simple": _SIMPLE, "dag": _DAG, "trays": _LONG}
"""Name -> text; each is valid as it is."""


def new(
    example: Annotated[str, typer.Option("--example", "-e", help="Which one: " + ", ".join(EXAMPLES) + ".")] = "simple",
) -> None:
    """Print a short commented steering file: icp new > steering.toml"""
    if example not in EXAMPLES:
        meant = nearest(example, EXAMPLES)
        hint = f"Did you mean {meant}?" if meant else "There are " + ", ".join(EXAMPLES) + "."
        raise NotFound(f"There is no example {example!r}.", hint)
    typer.echo(EXAMPLES[example], nl=False)
