"""What a steering file defines, as frozen records with a JSON round trip (hides how the ledger keeps a definition)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Cell",
    "InputRef",
    "JobSource",
    "Module",
    "Origin",
    "OutputDef",
    "Quantity",
    "Resources",
    "Scalar",
    "Software",
    "Steering",
    "Tarball",
    "TaskDef",
    "Tray",
    "UrlInput",
    "steering_from_json",
    "task_from_json",
    "to_json",
]

Scalar = str | int | float | bool
"""A value of a steering variable, of a scan axis, or of a column of a CSV file (always text there)."""

Cell = Scalar | list[str] | list[int]
"""A column of a job: a list where the job is made from many files."""

Quantity = int | float | str
"""A number (bytes, seconds, pieces), or the text of an expression that gives one for each job."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task asks for: ``memory`` and ``disk`` in bytes, ``time`` in seconds; an expression is text."""

    cpus: Quantity = 1
    memory: Quantity = 2_000_000_000
    disk: Quantity = 1_000_000_000
    gpus: Quantity = 0
    time: Quantity = 3600


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a module's file was fetched from: ``commit`` of a repository, ``sha256`` of the file, ``folder`` in the
    pack of the dataset that it was shipped in. All three are empty before it was fetched.
    """

    url: str
    rev: str = ""
    commit: str = ""
    sha256: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """One step: a ``command``, text for ``/bin/sh -e`` or one text for each argument (no shell); or a Python module.

    ``python`` is a predefined module's name or the path of a file in the task's directory, ``cls`` the class in it.
    """

    command: str | tuple[str, ...] = ""
    python: str | None = None
    cls: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Tray:
    """Modules that run in order in one software environment, ``iterations`` times (a number, or an expression)."""

    modules: tuple[Module, ...]
    software: str | None = None
    iterations: int | str = 1


@dataclass(frozen=True, slots=True)
class InputRef:
    """An output of another task, by its declared name; ``every``: of all jobs of the group (final tasks only)."""

    task: str
    output: str
    every: bool = False


@dataclass(frozen=True, slots=True)
class UrlInput:
    """A file that is fetched from elsewhere; everything is text that may hold expressions, empty where it is not known.

    ``name`` is what the task finds it as; empty: the last part of the URL.
    """

    url: str
    name: str = ""
    sha256: str = ""
    md5: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True)
class OutputDef:
    """A file that a task promises; ``name`` may hold expressions, ``glob``: and a pattern.

    ``keep`` is None where the file does not say: then outputs that no task of the same job reads are kept, but for those
    that are stored elsewhere, under ``url``.
    """

    name: str
    optional: bool = False
    keep: bool | None = None
    glob: bool = False
    url: str = ""


@dataclass(frozen=True, slots=True)
class TaskDef:
    """A vertex of the DAG. ``after`` names every parent, said or implied by an input; ``index`` is its place in the dataset."""

    name: str
    index: int
    final: bool
    trays: tuple[Tray, ...]
    inputs: tuple[InputRef, ...] = ()
    outputs: tuple[OutputDef, ...] = ()
    after: tuple[str, ...] = ()
    resources: Resources = Resources()
    requirements: str = ""
    software: str | None = None
    max_tries: int = 3
    group_by: str | None = None
    fetches: tuple[UrlInput, ...] = ()


@dataclass(frozen=True, slots=True)
class Tarball:
    """The bytes of an environment for one platform; ``url`` may be a path beside the steering file."""

    platform: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Software:
    """A named environment: what must be there, and how one gets into it; texts may hold expressions."""

    cvmfs: tuple[str, ...] = ()
    shell: str = ""
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    tarballs: tuple[Tarball, ...] = ()
    container: str = ""


@dataclass(frozen=True, slots=True)
class JobSource:
    """How many jobs there are and what each one's columns are.

    ``kind`` is ``count``, ``scan`` (``axes``: name and values, or a number n for range(n); the last axis is the fastest)
    or ``rows`` (``columns`` and one row for each job, from a CSV file or a list of files, read once).
    """

    kind: str
    count: int
    axes: tuple[tuple[str, int | tuple[Scalar, ...]], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    source: str = ""
    """The output of another dataset that each job's files are of: ``dataset:NAME/task:output``; "" where they are made of nothing."""
    group: int | None = None
    """So many files a job, at the most."""
    group_by: str = ""
    """Files of one job have one value of this."""
    follow: bool = False
    """Jobs are added as outputs come; ``rows`` are those that were there when the file was read."""
    example: tuple[Cell, ...] = ()
    """A row like those to come, where jobs follow and none is there yet."""

    @property
    def grouped(self) -> bool:
        """Whether a job is made from a list of files."""
        return self.group is not None or bool(self.group_by)

    def sample(self, job: int) -> dict[str, Cell]:
        """The columns of this job, or of one like those to come."""
        return dict(zip(self.columns, self.example, strict=True)) if self.example else self.row(job)

    def row(self, job: int) -> dict[str, Cell]:
        """The columns of this job; IndexError when there is no such job."""
        if not 0 <= job < self.count:
            raise IndexError(job)
        if self.kind == "scan":
            values: dict[str, Cell] = {}
            for name, axis in reversed(self.axes):
                size = axis if isinstance(axis, int) else len(axis)
                job, index = divmod(job, size)
                values[name] = index if isinstance(axis, int) else axis[index]
            return {name: values[name] for name, _ in self.axes}
        if self.kind == "rows":
            return dict(zip(self.columns, self.rows[job], strict=True))
        return {}


@dataclass(frozen=True, slots=True)
class Steering:
    """A dataset as its steering file describes it; ``tasks`` in topological order, ``finals`` continue their indices."""

    name: str
    jobs: JobSource
    tasks: tuple[TaskDef, ...]
    finals: tuple[TaskDef, ...] = ()
    files: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, Software] = field(default_factory=dict)
    seed: int | None = None
    priority: int = 0
    category: str = ""
    stop_loss: int = 20
    text: str = ""
    path: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def all_tasks(self) -> tuple[TaskDef, ...]:
        """Tasks of jobs, then final tasks: a task's ``index`` is its position here."""
        return self.tasks + self.finals

    def task(self, name: str) -> TaskDef:
        """The task or final task of this name; KeyError when there is none."""
        for task in self.all_tasks:
            if task.name == name:
                return task
        raise KeyError(name)


def to_json(value: Steering | TaskDef) -> dict[str, Any]:
    """Plain data for JSON; of a :class:`Steering` without ``text`` and ``jobs.rows``, which are stored on their own."""
    if isinstance(value, TaskDef):
        return _task_to_json(value)
    return {
        "name": value.name,
        "jobs": {
            "kind": value.jobs.kind,
            "count": value.jobs.count,
            "axes": [[name, axis if isinstance(axis, int) else list(axis)] for name, axis in value.jobs.axes],
            "columns": list(value.jobs.columns),
            "source": value.jobs.source,
            **({"group": value.jobs.group, "group_by": value.jobs.group_by, "follow": value.jobs.follow} if value.jobs.source else {}),
        },
        "tasks": [_task_to_json(task) for task in value.tasks],
        "finals": [_task_to_json(task) for task in value.finals],
        "files": list(value.files),
        "variables": dict(value.variables),
        "software": {name: _software_to_json(one) for name, one in value.software.items()},
        "seed": value.seed,
        "priority": value.priority,
        "category": value.category,
        "stop_loss": value.stop_loss,
        "path": value.path,
        "warnings": list(value.warnings),
    }


def steering_from_json(data: Mapping[str, Any], *, text: str = "", rows: Sequence[Sequence[Cell]] = ()) -> Steering:
    """What :func:`to_json` made, with the text and the rows that were stored apart."""
    jobs = data["jobs"]
    axes = tuple((name, axis if isinstance(axis, int) else tuple(axis)) for name, axis in jobs["axes"])
    source = JobSource(
        jobs["kind"], jobs["count"], axes, tuple(jobs["columns"]), tuple(tuple(row) for row in rows), jobs.get("source", ""), jobs.get("group"),
        jobs.get("group_by", ""), jobs.get("follow", False),
    )  # fmt: skip
    return Steering(
        name=data["name"],
        jobs=source,
        tasks=tuple(task_from_json(task) for task in data["tasks"]),
        finals=tuple(task_from_json(task) for task in data["finals"]),
        files=tuple(data["files"]),
        variables=data["variables"],
        software={name: _software_from_json(one) for name, one in data["software"].items()},
        seed=data["seed"],
        priority=data["priority"],
        category=data["category"],
        stop_loss=data["stop_loss"],
        text=text,
        path=data["path"],
        warnings=tuple(data["warnings"]),
    )


def _software_to_json(one: Software) -> dict[str, Any]:
    tarballs = [[tarball.platform, tarball.url, tarball.sha256] for tarball in one.tarballs]
    return {
        "cvmfs": list(one.cvmfs),
        "shell": one.shell,
        "setup": one.setup,
        "env": dict(one.env),
        "tarballs": tarballs,
        "container": one.container,
    }


def _software_from_json(data: Mapping[str, Any]) -> Software:
    tarballs = tuple(Tarball(*tarball) for tarball in data["tarballs"])
    return Software(tuple(data["cvmfs"]), data["shell"], data["setup"], data["env"], tarballs, data["container"])


def _task_to_json(task: TaskDef) -> dict[str, Any]:
    resources = task.resources
    return {
        "name": task.name,
        "index": task.index,
        "final": task.final,
        "trays": [
            {
                "software": tray.software,
                "iterations": tray.iterations,
                "modules": [_module_to_json(module) for module in tray.modules],
            }
            for tray in task.trays
        ],
        "inputs": [[ref.task, ref.output, ref.every] for ref in task.inputs],
        "outputs": [[output.name, output.optional, output.keep, output.glob, *([output.url] if output.url else [])] for output in task.outputs],
        "after": list(task.after),
        "resources": {
            "cpus": resources.cpus,
            "memory": resources.memory,
            "disk": resources.disk,
            "gpus": resources.gpus,
            "time": resources.time,
        },
        "requirements": task.requirements,
        "software": task.software,
        "max_tries": task.max_tries,
        "group_by": task.group_by,
        **({"fetches": [[one.url, one.name, one.sha256, one.md5, one.size] for one in task.fetches]} if task.fetches else {}),
    }


def _module_to_json(module: Module) -> dict[str, Any]:
    command = module.command if isinstance(module.command, str) else list(module.command)
    data = {"command": command, "python": module.python, "class": module.cls, "params": dict(module.params)}
    return data if module.origin is None else {**data, "origin": asdict(module.origin)}


def _module_from_json(data: Mapping[str, Any]) -> Module:
    command = data["command"]
    origin = Origin(**data["origin"]) if data.get("origin") else None
    return Module(
        command if isinstance(command, str) else tuple(command), data["python"], data["class"], data["params"], origin
    )


def task_from_json(data: Mapping[str, Any]) -> TaskDef:
    """The task definition that :func:`to_json` made."""
    return TaskDef(
        name=data["name"],
        index=data["index"],
        final=data["final"],
        trays=tuple(
            Tray(tuple(_module_from_json(m) for m in tray["modules"]), tray["software"], tray["iterations"])
            for tray in data["trays"]
        ),
        inputs=tuple(InputRef(task, output, every) for task, output, every in data["inputs"]),
        outputs=tuple(OutputDef(*output) for output in data["outputs"]),
        after=tuple(data["after"]),
        resources=Resources(**data["resources"]),
        requirements=data["requirements"],
        software=data["software"],
        max_tries=data["max_tries"],
        group_by=data["group_by"],
        fetches=tuple(UrlInput(*one) for one in data.get("fetches", ())),
    )
