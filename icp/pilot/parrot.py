"""Parrot, which redirects system calls: CVMFS through its driver, or a copy (hides its options and environment)."""

import hashlib
import os
import re

from . import trial
from .disk import remove_tree, tree_bytes
from .kit import Step, Way, client_said

__all__ = ["Parrot", "ParrotCopy"]

QUIET = "clear error"
"""Of what it says only errors. It notes each program that uses a system call it does not know, and with a C library of 2.35 or
newer that is each program: a failure's own words were lost among them.
"""


class Parrot(Way):
    """System calls are redirected. It may be there and broken: with a newer C library than its own it starts nothing."""

    name = "parrot"
    hides = True
    counts = False
    chats = True

    def lacks(self) -> str:
        why = self._starts()
        if why:
            return why
        driver = self._tried("--check-driver", "cvmfs")
        if not driver.ok:
            return f"parrot_run has no driver for cvmfs: {driver.why(self.kit.patience)}"
        why = self.kit.cache()[1]
        if not why and self.kit.in_memory and not self.kit.told.get("alien_cache"):
            why = f"{self.kit.in_memory}, and the cache of Parrot has no bound: not in memory"
        return why

    def reason(self, said: str) -> str:
        # Old clients know no such option: so it is looked for where the trial was in vain already.
        log, step = self.kit.scratch + "/parrot/log", Step(dict(self.kit.env), self.kit.scratch, "trial")
        for one in self.wanted:
            argv = self.wrap(["ls", f"/cvmfs/{one}/"], step)
            self.kit.run(argv[0], "--cvmfs-option", f"CVMFS_USYSLOG={log}", *argv[1:], **step.env)
            why = client_said(log)
            if why:
                return f"{one}: {why}"
        return said

    def revision(self, name: str) -> str:
        """The hash of its root catalog, as its client notes it: attributes of files are not shown through Parrot."""
        cache = self.kit.told.get("alien_cache") or self._folder("trial") + "/cvmfs"
        try:
            with open(f"{cache}/cvmfschecksum.{name}") as stream:
                return stream.read(40)
        except OSError:
            return ""

    def _program(self) -> str:
        return str(self.kit.tool("parrot_run")[0])

    def _starts(self) -> str:
        why = self.kit.tool("parrot_run")[1]
        if why:
            return str(why)
        started = self._tried("/bin/true")
        return "" if started.ok else f"parrot_run is broken here: {started.why(self.kit.patience)}"

    def _tried(self, *words: str) -> trial.Outcome:
        # /tmp, where it would keep what it needs, may be full
        folder = self.kit.scratch + "/parrot"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            pass  # It says so.
        return self.kit.run(self._program(), *words, PARROT_TEMP_DIR=folder, PARROT_DEBUG_FLAGS=QUIET)

    def _folder(self, slot: str) -> str:
        """Each slot has a cache of its own where that is bounded."""
        place = self.kit.cache()[0]
        return f"{place}/{slot}" if self._quota() else place

    def _quota(self) -> int:
        """MB; a cache that all nodes share has none."""
        return 0 if self.kit.told.get("alien_cache") else self.kit.quota

    def ready(self, slot: str) -> None:
        # Its client has no managed cache, and an option that asks for one is an error: so it is emptied between two tasks.
        folder = self._folder(slot)
        if self._quota() and tree_bytes(folder) > self._quota() * 1000000:
            remove_tree(folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def _started(self, step: Step) -> "list[str]":
        """Its command line so far. By itself it would leave the process group, and no signal to that would reach the command."""
        step.env["PARROT_TEMP_DIR"] = self._folder(step.slot)
        step.env.setdefault("PARROT_DEBUG_FLAGS", QUIET)
        return [self._program(), "--no-set-foreground"]

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        told, own = self.kit.told, step.env.get("HTTP_PROXY")
        proxies = str(told.get("proxies") or own or "DIRECT")
        # Old clients refuse a plain DIRECT.
        step.env["HTTP_PROXY"] = "DIRECT;" if proxies == "DIRECT" else proxies
        # Parrot's own are an hour, and a proxy that does not answer would be waited for as long. These are CVMFS's.
        common = ["timeout=5", "timeout_direct=10"]
        repositories = [
            f"{name}:" + ",".join([*common, *(f"{key}={value}" for key, value in options.items())])
            for name, options in self.kit.repositories().items()
        ]
        if repositories or "PARROT_CVMFS_REPO" not in step.env:
            step.env["PARROT_CVMFS_REPO"] = " ".join(["<default-repositories>:" + ",".join(common), *repositories])
        step.env["PARROT_ALLOW_SWITCHING_CVMFS_REPOSITORIES"] = "yes"
        if told.get("alien_cache"):
            step.env["PARROT_CVMFS_ALIEN_CACHE"] = str(told["alien_cache"])
        # A list of proxies for CVMFS is nothing that programs of the task should take for theirs.
        back = ["unset HTTP_PROXY", "sh"] if own is None else ["HTTP_PROXY=$0; export HTTP_PROXY", own]
        return [*self._started(step), "/bin/sh", "-c", back[0] + '; exec "$@"', back[1], *argv]


class ParrotCopy(Parrot):
    """A copy, by Parrot: its driver of CVMFS is not needed."""

    name = "parrot-copy"
    reads_copies = True
    chats = False

    def lacks(self) -> str:
        blank = [one for one in (self.kit.scratch, *(source for source, _ in self._sources())) if re.search(r"\s", one)]
        return self._starts() or (f"it cannot show what lies in a path with blanks: {blank[0]}" if blank else "")

    def _folder(self, slot: str) -> str:
        del slot  # nothing is kept there that two could want at once
        return f"{self.kit.scratch}/parrot"

    def _sources(self) -> "list[tuple[str, str]]":
        """The copies where they really are: a link would be one through it as well, and lead the command away from ``/cvmfs``."""
        return [(os.path.realpath(source), target) for source, target in self.copies]

    def _mounts(self) -> "tuple[str, list[tuple[str, str]]]":
        """(the file that says what is where, its lines). There is a ``/cvmfs`` first, empty but for places: where the node has none, it
        could not be listed, and no path be resolved through it.
        """
        sources = self._sources()
        name = hashlib.sha256(repr(sources).encode()).hexdigest()[:16]
        return f"{self.kit.scratch}/parrot/{name}", [("/cvmfs", f"{self.kit.scratch}/parrot/{name}.cvmfs"), *((target, source) for source, target in sources)]

    def ready(self, slot: str) -> None:
        del slot
        path, lines = self._mounts()
        if os.path.exists(path):
            return
        for target, _ in lines:
            os.makedirs(lines[0][1] + target[len("/cvmfs") :], mode=0o700, exist_ok=True)
        # Not by its option -M: that lets the copy be written.
        with open(path + ".part", "w") as stream:
            stream.writelines(f"{target} {source} rx\n" for target, source in lines)
        os.rename(path + ".part", path)

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        return [*self._started(step), "-m", self._mounts()[0], *argv]
