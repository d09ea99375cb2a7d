"""Every key of a steering file, once, as data (hides nothing: this is the list)."""

from __future__ import annotations

from icp.dsl.kinds import (
    ANYTHING,
    CELL,
    COLUMN_NAME,
    COUNT,
    DURATION_KIND,
    FLAG,
    MD5,
    PLATFORM,
    REPOSITORY,
    SHA256,
    SIZE_KIND,
    TASK_NAME,
    TEXT,
    VARIABLE,
    VARIABLE_NAME,
    WRITTEN_SHA256,
    Key,
    ListOf,
    MapOf,
    OneOf,
    Scalar,
    Table,
    whole,
)
from icp.dsl.names import NAME

__all__ = ["FINAL", "JOBS", "MODULE", "OUTPUT", "RESOURCES", "SOFTWARE", "TARBALL", "TASK", "TASK_KEYS", "TOP", "TRAY", "URL_INPUT"]

MAX_SEED = 2**63 - 1

COMMAND = OneOf(
    (TEXT, ListOf(Scalar("text", (str,), {"type": "string"}), "a list of arguments", 1)),
    "a command as text, or a list of arguments",
)

RESOURCES = Table(
    {
        "cpus": Key(whole(1, 100_000, expression=True), "Cores.", "1"),
        "memory": Key(
            SIZE_KIND, "Memory of all its processes together.", '"2 GB"', examples=('"500 MB"', '"4 GiB"', "4000")
        ),
        "disk": Key(SIZE_KIND, "Space for inputs, outputs and scratch files.", '"1 GB"'),
        "gpus": Key(whole(0, 1000, expression=True), "GPUs; one or more imply `$attr(HasGPU)`.", "0"),
        "time": Key(DURATION_KIND, "Wall-clock time.", '"1 h"', examples=('"8 h"', '"30 min"', '"1:30:00"', '"2 d"')),
    },
    "a table of resources",
)

OUTPUT = OneOf(
    (
        TEXT,
        Table(
            {
                "name": Key(
                    TEXT, "The file, relative to the task's directory; `*`, `?` and `[` make a pattern.", required=True
                ),
                "optional": Key(FLAG, "It may be missing when the task ends.", "false"),
                "keep": Key(
                    FLAG, "Bring it home, or not.", "true for outputs without `url` that no other task of the job reads"
                ),
                "url": Key(
                    TEXT,
                    "Where it is stored by the task's node; the name is appended to one that ends with `/`.",
                    examples=('"gsiftp://host/path/$args(job)/out.i3"',),
                ),
            },
            "an output",
        ),
    ),
    "a file name, or a table { name, optional, keep, url }",
)

URL_INPUT = Table(
    {
        "url": Key(TEXT, "Where the task's node fetches it.", required=True),
        "name": Key(TEXT, "The file, relative to the task's directory.", "the last part of the URL"),
        "sha256": Key(SHA256, "Its checksum; with it the site's cache keeps it."),
        "md5": Key(MD5, "Its checksum."),
        "size": Key(whole(0, expression=True), "Its bytes."),
    },
    "an input by URL",
)

INPUT = OneOf((TEXT, URL_INPUT), '"task:output", a URL, or a table { url, name, sha256, md5, size }')

MODULE = Table(
    {
        "command": Key(COMMAND, "Text runs under `sh -e`, a list without a shell."),
        "python": Key(
            TEXT,
            "A file with a class that derives from `icp.pilot.module.Module`, or a predefined module (docs/modules.md).",
            examples=('"level2.py"', '"checksum"'),
        ),
        "class": Key(TEXT, "The class in it.", "the only module class of the file"),
        "params": Key(
            MapOf(ANYTHING, COLUMN_NAME, "a parameter", "a table of parameters"),
            "Its parameters, with expressions anywhere in them; one single expression keeps its type.",
            examples=('{ infile = "showers.i3", cuts = { zenith = 85.0 } }',),
        ),
        "url": Key(
            TEXT,
            "Where the file comes from when it does not lie beside this one; fetched at submit, shipped with the dataset.",
            examples=('"git+https://example.org/modules.git"', '"https://example.org/level2.py"'),
        ),
        "rev": Key(
            TEXT,
            "With `url`: a branch, tag or commit of a repository, or `sha256:...` of a single file.",
            examples=('"v1.4"',),
        ),
    },
    "a module",
)

TRAY = Table(
    {
        "software": Key(TASK_NAME, "The `[software.NAME]` that its modules run in.", "the task's"),
        "iterations": Key(
            whole(1, 10_000, expression=True), "How often the tray runs; `$args(iter)` counts from 0.", "1"
        ),
        "module": Key(ListOf(MODULE, "modules", 1), "What runs, in order.", required=True),
    },
    "a tray",
)

TASK_KEYS = {
    "command": Key(COMMAND, "What runs: text under `sh -e`, a list without a shell. Instead of `tray`."),
    "inputs": Key(
        ListOf(INPUT, "a list of inputs"),
        'Outputs of other tasks, `"task:output"` with the name as it is declared there, which implies `after`; and files by URL.',
        examples=('["corsika:showers.i3.zst"]', '[{ url = "https://example.org/gcd.i3", sha256 = "…" }]'),
    ),
    "outputs": Key(
        ListOf(OUTPUT, "a list of outputs"), "Files that the task leaves behind.", examples=('["hist.json"]',)
    ),
    "after": Key(ListOf(TASK_NAME, "a list of tasks"), "Tasks that must be ok before."),
    "resources": Key(RESOURCES, "What it asks of a node."),
    "requirements": Key(
        TEXT,
        "Attributes of a site compared with constants; a task that states none needs `$attr(CPU)`.",
        examples=('"$attr(GPUMemory) >= 5000 and not $attr(Slow)"',),
    ),
    "software": Key(TASK_NAME, "The `[software.NAME]` that it runs in."),
    "max_tries": Key(whole(1, 1000), "Failures of the payload after which the task has failed.", "3"),
    "tray": Key(ListOf(TRAY, "trays", 1), "The long form of `command`: trays of modules, in order."),
}

TASK = Table(TASK_KEYS, "a task")

FINAL = Table(
    {
        **TASK_KEYS,
        "inputs": Key(
            ListOf(INPUT, "a list of inputs"),
            'Outputs of all jobs, `"task:output[*]"`, which the file `inputs.list` names; and files by URL.',
            examples=('["filter:level2.i3.zst[*]"]',),
        ),
        "group_by": Key(
            TEXT,
            "Evaluated for each job; the final task runs once for each different value, given as `$args(group)`.",
            "once for all jobs",
            examples=('"$eval($args(job) // 100)"',),
        ),
    },
    "a final task",
)

JOBS = OneOf(
    (
        COUNT,
        Table(
            {
                "scan": Key(
                    MapOf(
                        OneOf(
                            (ListOf(CELL, "a list of values", 1), COUNT), "a list of values, or a number n for 0 to n-1"
                        ),
                        COLUMN_NAME,
                        "an axis",
                        "a table of axes",
                    ),
                    "One job for each combination; the last axis is the fastest. Each axis is an `$args`.",
                    examples=("{ energy = [1, 10, 100], seed = 1000 }",),
                ),
                "csv": Key(
                    TEXT, "A CSV file with a header; one job a line, each column an `$args`.", examples=('"runs.csv"',)
                ),
                "files": Key(
                    TEXT, "A pattern; one job for each file, its path is `$args(files)`.", examples=('"data/*.i3"',)
                ),
                "from": Key(
                    TEXT,
                    "An output of another dataset; one job for each of its files. Tasks without parents find it as `$args(files)`.",
                    examples=('"dataset:level1/filter:level1.i3.zst"',),
                ),
                "group": Key(
                    whole(1, 100_000),
                    "With `from`: so many files a job, in the order of the other dataset's jobs. `$args(files)` and the file `inputs.list` list them.",
                    "1, and no list",
                    examples=("100",),
                ),
                "group_by": Key(
                    TEXT,
                    "With `from`: evaluated for each job of the other dataset; one job for each different value, given as `$args(source_group)`.",
                    examples=('"$args(energy)"',),
                ),
                "follow": Key(
                    FLAG, "With `from`: that dataset need not be complete; jobs are added as its outputs come home.", "false",
                ),
            },
            "one of scan, csv, files and from",
        ),
    ),
    "a number of jobs, or jobs.scan, jobs.csv, jobs.files or jobs.from",
)

TARBALL = Table(
    {
        "platform": Key(
            PLATFORM,
            "Where it fits: system, machine, and the oldest C library; `any` is everywhere.",
            '"any"',
            examples=('"linux-x86_64-glibc2.17"', '"linux-x86_64-musl"', '"linux-aarch64-glibc2.28"'),
        ),
        "url": Key(
            TEXT,
            "Where it is: `https:`, `http:`, `file:`, or a path beside the steering file. It is fetched at submit, and shipped.",
            required=True,
        ),
        "sha256": Key(WRITTEN_SHA256, "Its checksum: verified when it is fetched, and again where it is used.", required=True),
    },
    "a tarball",
)

SOFTWARE = Table(
    {
        "cvmfs": Key(
            ListOf(REPOSITORY, "a list of repositories", 1),
            "CVMFS repositories that it needs, each as `/cvmfs/REPOSITORY`.",
            examples=('["icecube.opensciencegrid.org"]',),
        ),
        "shell": Key(
            TEXT,
            "A command that starts a command inside the environment: what runs is put behind it.",
            examples=('"/cvmfs/icecube.opensciencegrid.org/py3-v4.3.0/icetray-env icetray/v1.9.2"',),
        ),
        "setup": Key(
            TEXT,
            "A file, and what it is given, that a shell (bash where there is one) sources before what runs.",
            examples=('"/cvmfs/sft.cern.ch/lcg/views/LCG_105/x86_64-el9-gcc13-opt/setup.sh"',),
        ),
        "env": Key(
            MapOf(TEXT, VARIABLE_NAME, "a variable", "a table of texts"),
            "Variables of the environment; `$NAME` in them is what it was before, `$ICP_SOFTWARE` where the tarball is.",
            examples=('{ PYTHONPATH = "$ICP_SOFTWARE/lib" }',),
        ),
        "tarball": Key(
            ListOf(TARBALL, "a list of tarballs", 1),
            "Tarballs by platform; a node takes the best that it satisfies. With `cvmfs`: a copy of the repository.",
        ),
        "container": Key(
            TEXT,
            "An image that apptainer or singularity starts: a path at the site, or an address such as `docker://...`.",
        ),
    },
    "a software environment",
)

TOP = Table(
    {
        "name": Key(TASK_NAME, "The dataset's name.", "the file's name without its end"),
        "jobs": Key(JOBS, "How many jobs, or what they differ in.", "1", examples=("10_000",)),
        "files": Key(
            ListOf(TEXT, "a list of files and folders"),
            "Files and folders beside the steering file that are shipped with the dataset, read-only at the worker.",
            examples=('["sim.py", "geometry/"]',),
        ),
        "seed": Key(
            whole(0, MAX_SEED), "All of `$args(seed)` and `$choice` follow from it.", "random at submit, and recorded"
        ),
        "priority": Key(whole(-4999, 5000), "Datasets with a larger one go first.", "0"),
        "category": Key(TASK_NAME, "A word to find and count datasets by."),
        "stop_loss": Key(
            whole(0, 1_000_000), "So many identical failures without a success suspend the dataset; 0: never.", "20"
        ),
        "steering": Key(
            MapOf(VARIABLE, COLUMN_NAME, "a variable", "a table of variables"),
            "Variables: `$steering(name)` everywhere.",
        ),
        "software": Key(
            MapOf(SOFTWARE, NAME, "an environment", "a table of environments"),
            "Named environments for tasks and trays. A command at the top runs in the only one that there is.",
        ),
        "task": Key(MapOf(TASK, NAME, "a task", "a table of tasks"), "The tasks of each job."),
        "final": Key(MapOf(FINAL, NAME, "a task", "a table of tasks"), "Tasks over the outputs of many jobs."),
        **{key: value for key, value in TASK_KEYS.items() if key != "software"},
    },
    "a steering file",
)
