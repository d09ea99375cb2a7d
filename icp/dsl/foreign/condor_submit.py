"""An HTCondor submit description -> a dataset in the words of a steering file (hides which commands have a counterpart)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk
from icp.dsl.foreign.classad import requirements
from icp.dsl.foreign.condor_keys import ATTRIBUTES, FLAVOURS, PASSED_OVER, REFUSED, SYNONYMS, UNDERSTOOD
from icp.dsl.foreign.condor_text import MAX_JOBS, Macros, Queue, Set, Unclear, items, process_of, statements
from icp.dsl.foreign.condor_words import amount, arguments, environment
from icp.dsl.foreign.described import Described, Job, Out, describe, packed_as
from icp.dsl.foreign.words import is_plain
from icp.dsl.locator import KeyPath, Position
from icp.dsl.names import NAME, unsafe
from icp.dsl.syntax import nearest

__all__ = ["in_place", "read", "standing"]

IN_PLACE = ("/bin/", "/usr/", "/sbin/", "/cvmfs/")
_FUNCTION = re.compile(r"\$[A-Za-z][A-Za-z_]*\(")


def in_place(executable: str) -> bool:
    """Whether a program is taken to be at every site, rather than shipped."""
    return executable.startswith(IN_PLACE)


def standing(path: str) -> str:
    """Where a file that HTCondor would write at ``path`` stands in a task's directory."""
    if path == "/dev/null":
        return path
    plain = "/".join(part for part in path.split("/") if part not in ("", "."))
    return plain.rpartition("/")[2] if path.startswith("/") or ".." in plain.split("/") else plain


class _NeedsRows(Exception):
    """Something must be known for each job that an expression cannot give."""


def read(text: str, path: str, places: dict[KeyPath, Position], mistakes: Mistakes, disk: Disk | None) -> Described | None:
    """See ``icp.dsl.foreign.Reader``."""
    return _Submit(text, path, places, mistakes, disk).read()


class _Submit:
    def __init__(self, text: str, path: str, places: dict[KeyPath, Position], mistakes: Mistakes, disk: Disk | None) -> None:
        self.text, self.path, self.places, self.mistakes, self.disk = text, path, places, mistakes, disk
        self.macros = Macros(path)
        self.top: dict[str, Any] = {}
        self.files: dict[str, None] = {}
        self.jobs: list[Job] = []
        self.count: int | None = None
        self.seen: dict[str, int] = {}
        """own words of a key -> line of its first use"""

    # -- statements ---------------------------------------------------------------------------------------------

    def read(self) -> Described | None:
        found = list(statements(self.text))
        queues = [one for one in found if isinstance(one, Queue)]
        if not queues:
            self._wrong("queue", 1, "nothing is queued", "a line `queue`, or `queue 100`")
            return None
        alone = len(queues) == 1 and not _FUNCTION.search(self.text)
        for one in found:
            if isinstance(one, Set):
                self._set(one)
            elif isinstance(one, Queue):
                self.places["queue",] = (one.line, 1)
                try:
                    self._queue(one, alone)
                except Unclear as error:
                    self.mistakes.add(("queue",), str(error))
            else:
                self._wrong(one.text.split()[0], one.line, f"{one.text[:60]!r} is not understood", "KEY = VALUE, or queue")
        self._unknown_keys()
        if len(self.mistakes) or not self.jobs:
            return None
        self.top["files"] = list(self.files)
        name = str(self.top.get("name") or re.sub(r"\.\w+\Z", "", self.path.rpartition("/")[2]))
        try:
            described = describe(name, self.jobs, self.count)
        except ValueError as error:
            self.mistakes.add(("queue",), str(error), "one description for all jobs, or several submit files")
            return None
        described.table.update(self.top)
        return described

    def _wrong(self, key: str, line: int, message: str, expected: str = "") -> None:
        self.places[key,] = (line, 1)
        self.mistakes.add((key,), message, expected)

    def _set(self, one: Set) -> None:
        low = re.sub(r"\A(?:my\.|\+)", "+", one.key.lower())
        key = SYNONYMS.get(low, low)
        self.places[key,] = (one.line, 1)
        self.seen.setdefault(key, one.line)
        self.macros.set(key, one.value)
        self.macros.set(one.key, one.value)
        if key in REFUSED and one.value.lower() not in ("", "false", "0"):
            self.mistakes.add((key,), REFUSED[key])
        elif key in PASSED_OVER:
            self.mistakes.warn((key,), f"passed over: {PASSED_OVER[key]}")
        elif key.startswith("+") and key not in ATTRIBUTES:
            self.mistakes.warn((key,), "passed over: attributes of a job mean nothing to icp")

    def _unknown_keys(self) -> None:
        known = {*UNDERSTOOD, *PASSED_OVER, *REFUSED}
        for key in self.seen:
            if key in known or key.startswith("+") or key in self.macros.used:
                continue
            meant = nearest(key, known)
            self.mistakes.warn((key,), "no command that is known, and no macro that is used" + (f"; did you mean {meant}?" if meant else ""))
        for name in sorted(self.macros.undefined):
            self.mistakes.warn(("queue",), f"$({name}) is defined nowhere: nothing stands for it")
        if self.macros.clusters:
            self.mistakes.warn(("queue",), "$(Cluster) is the name of the dataset here, not a number")

    # -- jobs ---------------------------------------------------------------------------------------------------

    def _queue(self, queue: Queue, alone: bool) -> None:
        count, rows = items(queue, self.macros, self.disk)
        first = len(self.jobs)
        if alone and rows is None:
            try:
                self.jobs = [self._job({"process": process_of(None), "step": process_of(None), "row": "0", "itemindex": "0"}, True)]
                self.count = count
                return
            except _NeedsRows:
                pass
        if first + count * len(rows or [{}]) > MAX_JOBS:
            raise Unclear(f"these are more than {MAX_JOBS:,} jobs that differ by more than their number")
        for number, row in enumerate(rows if rows is not None else [{}]):
            for step in range(count):
                known = {"process": str(len(self.jobs)), "step": str(step), "row": str(number), "itemindex": str(number), **row}
                before = len(self.mistakes)
                self.jobs.append(self._job(known, False))
                if len(self.mistakes) > before:
                    return

    def _job(self, known: Mapping[str, str], many: bool) -> Job:
        return _OneJob(self, known, many).job()

    def same(self, key: str, value: Any) -> None:
        """A value that belongs to the dataset; all jobs must agree."""
        if self.top.setdefault(key, value) != value:
            self.mistakes.add((key,), f"{key} differs between jobs of one file", "one value for all, or several submit files")

    def ship(self, key: str, file: str) -> str:
        """The name in the pack of a file of the person's."""
        if self.disk is not None and file not in self.files and not self.disk.exists(file.rstrip("/")):
            self.mistakes.add((key,), f"there is no {file!r}", "a file or a folder, relative to the submit file or absolute")
        self.files[file.rstrip("/")] = None
        return packed_as(file)


class _OneJob:
    """The commands of one job, or of each of many that differ by $(Process)."""

    def __init__(self, submit: _Submit, known: Mapping[str, str], many: bool) -> None:
        self.submit, self.known, self.many = submit, known, many
        self.mistakes = submit.mistakes

    def text(self, key: str) -> str:
        raw = self.submit.macros.whole(key)
        if raw is None:
            return ""
        self.submit.macros.used.add(key)
        return self._try(key, lambda: self.submit.macros.expand(raw, self.known)) or ""

    def settled(self, key: str) -> str:
        """A text that must be known here and now."""
        text = self.text(key)
        if self.many and not is_plain(text):
            raise _NeedsRows
        return text

    def _try(self, key: str, get: Any) -> Any:
        try:
            return get()
        except Unclear as error:
            self.mistakes.add((key,), str(error))
            return None

    def job(self) -> Job:
        self._of_the_dataset()
        executable = self.settled("executable").strip('"')
        if not executable:
            self.mistakes.add(("executable",), "the executable is missing", "a line executable = PROGRAM")
        words = self._try("arguments", lambda: arguments(self.text("arguments"))) or []
        env = self._try("environment", lambda: environment(self.text("environment"))) or []
        job = Job(("",), env=tuple(env), exports=('export _CONDOR_SCRATCH_DIR="$PWD" _CONDOR_JOB_IWD="$PWD"',), resources=self._resources())
        job = self._program(job, executable, words)
        job = replace(job, links=self._links())
        return self._streams(job)

    def _program(self, job: Job, executable: str, words: list[str]) -> Job:
        said = self.settled("transfer_executable").lower()
        if said in ("false", "no", "0") or (in_place(executable) and said not in ("true", "yes", "1")):
            return replace(job, argv=(executable, *words))
        name = executable.rpartition("/")[2]
        return replace(job, argv=(f"./{name}", *words), executable=(self.submit.ship("executable", executable), name))

    def _beside(self, file: str) -> str:
        folder = self.settled("initialdir").rstrip("/")
        return file if file.startswith("/") or not folder else f"{folder}/{file}"

    def _links(self) -> tuple[tuple[str, str], ...]:
        links = []
        keep = self.settled("preserve_relative_paths").lower() in ("true", "yes", "1")
        for file in _list(self.settled("transfer_input_files")):
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", file):
                self.mistakes.add(("transfer_input_files",), f"{file}: URLs are not fetched", "files that are here; or let the job fetch it")
                continue
            source = self.submit.ship("transfer_input_files", self._beside(file))
            if file.endswith("/"):
                links.append((source, source + "/"))
            else:
                links.append((source, standing(file) if keep else source.rpartition("/")[2]))
        return tuple(links)

    def _streams(self, job: Job) -> Job:
        stdin = self.settled("input")
        if stdin not in ("", "/dev/null"):
            source = self.submit.ship("input", self._beside(stdin))
            job = replace(job, stdin=source)
        outputs: list[Out] = []
        names = []
        for key in ("output", "error"):
            text = self.text(key)
            name = standing(text)
            if name != text and name != text.removeprefix("./"):
                self.mistakes.warn((key,), "only the name is kept: the file will be in the job's folder of the dataset's outputs")
            names.append(name)
            if name not in ("", "/dev/null"):
                outputs.append(self._out(key, name))
        job = replace(job, stdout=names[0], stderr=names[1])
        listed = self.submit.macros.whole("transfer_output_files")
        if listed is None:
            outputs.append(Out("*", glob=True, optional=True))
        for file in _list(self.text("transfer_output_files")):
            if file.endswith("/"):
                outputs.append(Out(file + "**", glob=True, optional=True))
            else:
                outputs.append(self._out("transfer_output_files", file))
        moves = self._moves()
        outputs = [replace(out, name=dict(moves).get(out.name, out.name)) for out in outputs]
        return replace(job, outputs=tuple(outputs), moves=moves)

    def _out(self, key: str, name: str) -> Out:
        if why := unsafe(name.replace("\0", "")):
            self.mistakes.add((key,), f"the output's name {name[:80]!r} {why}", "a file below the job's directory")
        return Out(name)

    def _moves(self) -> tuple[tuple[str, str], ...]:
        moves = []
        for one in self.text("transfer_output_remaps").strip().strip('"').split(";"):
            old, equals, new = (part.strip() for part in one.partition("="))
            if not one.strip():
                continue
            target = standing(new)
            if not equals or not target or re.match(r"[a-z]+://", new):
                self.mistakes.add(("transfer_output_remaps",), f"{one.strip()!r} is not understood", 'a list "name = new name; ..."')
            else:
                moves.append((old, target))
        return tuple(moves)

    def _resources(self) -> dict[str, str]:
        found = {}
        for key, kind in (("request_cpus", "cpus"), ("request_gpus", "gpus")):
            text = self.settled(key)
            if text and not text.isdigit():
                self.mistakes.add((key,), f"{text[:60]!r} is no whole number, and no other expression has a counterpart")
            elif text:
                found[kind] = str(int(text))
        for key, kind, unit in (("request_memory", "memory", "M"), ("request_disk", "disk", "K")):
            text = self.settled(key)
            size = self._try(key, lambda text=text, unit=unit: amount(text, unit)) if text else None
            if size and float(size.split()[0]) > 0:
                found[kind] = size
        found.update(self._time())
        return found

    def _time(self) -> dict[str, str]:
        for key, factor in (("allowed_execute_duration", 1), ("allowed_job_duration", 1), ("+maxruntime", 1), ("+maxwalltimemins", 60)):
            text = self.settled(key)
            if text.isdigit() and int(text):
                return {"time": f"{int(text) * factor} s"}
            if text:
                self.mistakes.add((key,), f"{text[:60]!r} is no number of {'minutes' if factor == 60 else 'seconds'}")
        flavour = self.settled("+jobflavour").strip('"').lower()
        if flavour in FLAVOURS:
            return {"time": FLAVOURS[flavour]}
        if flavour:
            self.mistakes.add(("+jobflavour",), f"{flavour!r} is not known", "one of " + ", ".join(FLAVOURS))
        else:
            self.mistakes.warn(("queue",), "no time is stated, so a job may run 1 h at the most; allowed_execute_duration = SECONDS states it")
        return {}

    def _of_the_dataset(self) -> None:
        submit = self.submit
        universe = self.settled("universe").lower()
        if universe not in ("", "vanilla", "5"):
            self.mistakes.add(("universe",), f"the {universe} universe has no counterpart", "vanilla")
        if self.settled("should_transfer_files").lower() in ("no", "false"):
            self.mistakes.add(("should_transfer_files",), "sites share no file system: files must be transferred", "YES, and transfer_input_files")
        if (said := self.settled("getenv")) and said.lower() not in ("false", "0"):
            self.mistakes.warn(("getenv",), "passed over: sites have environments of their own; environment = ... sets variables")
        if (text := self.settled("priority")) and re.match(r"-?\d{1,4}\Z", text):
            submit.same("priority", int(text))
        elif text:
            self.mistakes.add(("priority",), f"{text[:60]!r} is no whole number from -4999 to 5000")
        if (text := self.settled("max_retries")).isdigit():
            submit.same("max_tries", min(1000, int(text) + 1))
        elif text:
            self.mistakes.add(("max_retries",), f"{text[:60]!r} is no whole number")
        for key in ("accounting_group", "+projectname"):
            if text := self.settled(key).strip('"'):
                submit.same("category", re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".-")[:100] or "condor")
        if text := (self.settled("batch_name") or self.settled("+jobbatchname")).strip('"'):
            if NAME.match(text) and len(text) <= 100:
                submit.same("name", text)
            else:
                self.mistakes.warn(("batch_name",), f"{text[:60]!r} cannot be a dataset's name; the file's is taken")
        asked = []
        if text := self.settled("requirements"):
            reduced = self._try("requirements", lambda: requirements(text))
            if reduced is not None:
                asked.append(f"({reduced[0]})")
                if reduced[1]:
                    said = ", ".join(reduced[1])
                    self.mistakes.warn(("requirements",), f"matches only sites whose attributes ([site.NAME.attributes]) say so of {said}")
        if text := self.settled("gpus_minimum_memory"):
            size = self._try("gpus_minimum_memory", lambda: amount(text, "M"))
            factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
            if size:
                asked.append(f"$attr(GPUMemory) >= {round(float(size.split()[0]) * factor[size.split()[1][0]])}")
        if asked:
            submit.same("requirements", " and ".join(asked))


def _list(text: str) -> list[str]:
    return [one.strip() for one in text.strip().strip('"').split(",") if one.strip()]
