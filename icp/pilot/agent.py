"""The loop of an agent: claims cards, drives their attempts, watches over them, and tells it all to its journal
(hides signals and timers).
"""

import os
import select
import signal
import sys
import threading
import time

from . import node, offer, spool, watch
from .cache import Cache
from .claims import Claims
from .journal import Journal, Syncer
from .problem import Unrun
from .reaper import Reaper
from .runner import Runner, returned
from .slots import Room, Share
from .stage import Problem, Stage
from .supervisor import FENCED, Start, batch_end, become_subreaper, end_descendants
from .task import Pack, Slot, Task
from .warm import Warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

__all__ = ["Agent", "main"]

GRACE = 25.0
"""Seconds between a SIGTERM of the batch system and its SIGKILL, as far as we know."""
CACHE_SIZE = 20 * 1000 * 1000 * 1000
"""Bytes of the site's cache of fetched files, where the pilot was told nothing of it."""
MARGIN = 15.0
"""Seconds before the end at which running tasks are told to end; they are killed 5 s later."""
_SHORT = 10.0
"""A card that took less than this many seconds was short: one more may be claimed for each slot before it is free."""
_POLL_FIRST, _POLL_LAST = 0.02, 0.5


class Lane:
    """A card that runs, in its slot, with its share of the node."""

    __slots__ = ("began", "life", "name", "pack", "share", "slot", "specs", "task")

    def __init__(self, name: str, specs: "list[dict[str, Any]]", slot: Slot, share: Share, pack: Pack) -> None:
        self.name, self.specs, self.slot, self.share, self.pack = name, specs, slot, share, pack
        self.began = time.time()
        self.task: Task | None = None
        self.life: Generator[Any, Any, None] | None = None


class Agent:
    """One agent, from its first fact to its last."""

    def __init__(self, start: Start) -> None:
        told = start.told
        self.start, self.spool, self.id, self.folder = start, start.spool, start.agent, start.folder
        self.idle, self.heartbeat = float(told.get("idle") or 60), float(told.get("heartbeat") or 30)
        ends = [
            one
            for one in (told.get("end"), start.began + told["walltime"] if told.get("walltime") else None, batch_end())
            if one
        ]
        cpus, gpus = offer.cpus(told.get("cpus")), offer.gpus(told.get("gpus"))
        self.room = Room(
            cpus, offer.memory(told.get("memory"), cpus), offer.disk(told.get("disk"), start.scratch), gpus,
            min(ends) if ends else None, offer.attributes(told.get("attrs") or {}, cpus, gpus),
        )  # fmt: skip
        self.term_at: float | None = self.room.end - MARGIN if self.room.end else None
        self.journal = Journal(self.folder, "journal")
        self.journal.before = self._sync_packs
        self.syncer = Syncer(self.journal)
        platform = offer.platform_name()
        self.memory = offer.OutOfMemory()
        self.reaper = Reaper(self)
        cached = told.get("cache") or {}
        root = cached.get("root")
        self.cache = Cache(
            os.path.expandvars(root) if root else self.spool.fetched, cached.get("size", CACHE_SIZE), start.scratch + "/fetched"
        )
        stage = Stage(self._source_of, self.spool.blob, self.spool.stored, start.scratch + "/packs", told.get("transfer"), self.cache)
        self.runner = Runner(
            stage, self.id, start.scratch, lambda: platform, self.reaper.sweep, self._blame, dict(told.get("software") or {}, slots=cpus), self.tell
        )
        self.runner.warm = Warm(start.scratch + "/python", start.scratch + "/packs", self.reaper.own, self.reaper.killed)
        self.lanes: list[Lane] = []
        self.backlog: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = []
        self.finished: list[tuple[int, str]] = []
        self.done: list[tuple[Lane, Any, BaseException | None]] = []
        self.drain = ""
        self.fenced = False
        self.over = ""
        self._slots: list[Slot] = []
        self._made = 0
        self._short = False
        self._last_work = time.time()
        self._poll, self._next_poll = _POLL_FIRST, 0.0
        self._packs: list[Pack] = []
        self._signals: list[int] = []
        self.claims = Claims(self)
        self.watch = watch.Watch(self)

    # --- from begin to end

    def run(self) -> int:
        """The agent's life; its exit code."""
        try:
            return self._live()
        finally:
            self.runner.software.close()

    def _live(self) -> int:
        self._listen()
        os.mkdir(self.start.scratch + "/packs", 0o700)
        self.tell({
            "f": "started", "host": node.host(), "boot": node.boot_id(), "pid": os.getpid(), "cpus": self.room.cpus,
            "memory": self.room.memory, "disk": self.room.disk, "gpus": len(self.room.gpus), "end": self.room.end,
            "attrs": self.room.attrs, "python": "%d.%d.%d" % sys.version_info[:3], "scratch": self.start.scratch,
        })  # fmt: skip
        mark = f"{self.spool.pilot(self.start.pilot)}/started.{self.start.index}"
        try:
            fd = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, self.id.encode("ascii"))
            os.close(fd)
        except FileExistsError:
            return self._leave("duplicate start")
        while not self.over:
            self._turn()
        return self._leave(self.over)

    def tell(self, fact: "dict[str, Any]") -> int:
        number = self.journal.add(fact)
        self.syncer.poke()
        return number

    def _leave(self, why: str) -> int:
        if os.getppid() != self.start.supervisor:
            # Nobody outlives us who would do it.
            clean = end_descendants() and node.remove_scratch(self.start.scratch)
            if clean:
                node.unregister(self.start.note)
        if self.fenced:
            return FENCED
        self.tell({"f": "stopped", "why": why})
        patience = 600.0 if self.room.end is None else max(5.0, self.room.end - time.time())
        deadline = time.time() + patience
        while not self.syncer.close(0.5):
            if time.time() > deadline or not self._have_folder():
                return 1
        self._remove_finished()
        return 0

    def _listen(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._reader, self._writer = reader, writer
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda number, _: None)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, _: self._signals.append(number))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGUSR1])
        become_subreaper()

    def _turn(self) -> None:
        """One pass: what ended, what goes on, what is due, what can be claimed; then sleep until something happens."""
        for lane, ended in self.reaper.ended():
            self._resume(lane, ended, None)
        while self.done:
            self._resume(*self.done.pop())
        now = time.time()
        if self._signals:
            self._signalled(now)
        self.watch.look(now)
        if self.over:
            return
        if now >= self._next_poll:
            self._claim(now)
        if self.finished and self.finished[0][0] <= self.journal.durable:
            self._remove_finished()
        if not self.lanes and not self.backlog and not self.over:
            if self.drain:
                self.over = self.drain
            elif self.claims.none_left():
                self.over = "its card is done"
            elif now - self._last_work > self.idle:
                self.over = "idle"
        if not self.over and not self.done:
            self._sleep(now)

    def _sleep(self, now: float) -> None:
        pause = self.watch.next - now
        if self._next_poll:
            pause = min(pause, self._next_poll - now)
        if not self.lanes and not self.drain:
            pause = min(pause, self._last_work + self.idle - now)
        ready = select.select([self._reader], [], [], max(0.0, pause) + 0.001)[0]
        if ready:
            try:
                os.read(self._reader, 4096)
            except OSError:
                pass

    def _signalled(self, now: float) -> None:
        numbers, self._signals = self._signals, []
        if os.getppid() != self.start.supervisor:
            self.end("supervisor died")
        elif signal.SIGTERM in numbers:
            if self.drain == "SIGTERM":
                self.term_at = now
            else:
                grace = float(self.start.told.get("grace") or GRACE)
                self.begin_drain("SIGTERM")
                end = now + grace
                self.room.end = end if self.room.end is None else min(end, self.room.end)
                self.term_at = self.room.end - MARGIN

    # --- ends

    def begin_drain(self, why: str) -> None:
        """Nothing is claimed any more, and what has not begun is returned; what runs may end."""
        if self.drain:
            return
        self.drain = why
        self.tell({"f": "drain", "why": why})
        for name, specs, _ in self.backlog:
            for spec in specs:
                last = self.tell(returned(spec, why))
            self.finished.append((last, name))
        self.backlog = []
        self._next_poll = 0.0 if not self.lanes else float("inf")

    def end(self, why: str) -> None:
        """Now: running tasks are killed and reported as evicted, as there is nobody who would look after them."""
        self.begin_drain(why)
        for lane in self.lanes:
            if lane.task is not None:
                lane.task.stop("evicted", None, why)

    def be_fenced(self) -> None:
        """Our folder was taken away: the tasks are stopped, nothing more is written."""
        self.fenced, self.over = True, "fenced"
        for lane in self.lanes:
            if lane.task is not None:
                lane.task.stop("evicted", None, "fenced")

    def _have_folder(self) -> bool:
        try:
            os.listdir(self.claims.folder)
            return True
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _remove_finished(self) -> None:
        while self.finished and self.finished[0][0] <= self.journal.durable:
            self.claims.remove(self.finished.pop(0)[1])

    # --- claiming

    def _claim(self, now: float) -> None:
        """Starts what was claimed ahead, then claims while something fits; sets when to look again."""
        for one in list(self.backlog):
            if self.room.has_free(one[2]):
                self.backlog.remove(one)
                self._begin(*one)
        self._next_poll = float("inf")
        if self.drain or self.fenced:
            return
        if self.journal.trouble is not None:
            # What could not be told of is better left to others.
            self._next_poll = now + _POLL_LAST
            return
        claimed = False
        while True:
            ahead = self.room.full
            if ahead and not (self._short and len(self.backlog) < max(1, len(self.lanes))):
                break
            name = self.claims.choose(now, ahead, self._poll <= _POLL_FIRST)
            if name is None:
                self._poll = _POLL_FIRST if claimed else min(_POLL_LAST, self._poll * 1.5)
                self._next_poll = now + self._poll
                break
            card = self.claims.take(name)
            if self.over:
                return
            if card is not None:
                claimed = True
                self._last_work = now
                need = self.claims.need(name) or {}
                if ahead or not self.room.has_free(need):
                    self.backlog.append((name, card, need))
                else:
                    self._begin(name, card, need)
        if claimed:
            self._poll = _POLL_FIRST

    def adopt(self) -> None:
        """Looks into our own folder: for cards that we do not know of, and whether it is still there."""
        known = (
            self.claims.broken
            | {lane.name for lane in self.lanes}
            | {one[0] for one in self.backlog}
            | {name for _, name in self.finished}
        )
        for name in self.claims.unknown(known):
            specs = self.claims.read(name)
            if specs is not None and not self.drain:
                self.backlog.append((name, specs, self.claims.need(name) or {}))
                self._next_poll = 0.0
                continue
            if specs is not None:
                for spec in specs:
                    self.tell(returned(spec, self.drain))
                self.finished.append((self.journal.added, name))

    # --- running

    def _begin(self, name: str, specs: "list[dict[str, Any]]", need: "dict[str, Any]") -> None:
        slot = self._slots.pop() if self._slots else None
        try:
            if slot is None:
                self._made += 1
                slot = Slot(f"{self.start.scratch}/slot.{self._made}")
        except OSError as error:
            for spec in specs:
                last = self.tell(returned(spec, f"no working directory: {error}"))
            self.finished.append((last, name))
            return
        lane = Lane(name, specs, slot, self.room.take(need), Pack(self.spool.log(spool.card_id(name))))
        self.lanes.append(lane)
        lane.life = self._life(lane)
        self._resume(lane, None, None)

    def _life(self, lane: Lane) -> "Generator[Any, Any, None]":
        """The attempts of a card in order; what does not begin is returned, and why."""
        good: set[str] = set()
        known: dict[tuple[str, str], str] = {}
        for spec in lane.specs:
            now = time.time()
            if self.drain:
                self.tell(returned(spec, self.drain))
            elif any(one not in good for one in spec.get("after") or ()):
                self.tell(returned(spec, "a task before it did not end well"))
            elif self.room.end is not None and now + (spec.get("time") or 0) > self.room.end:
                self.tell(returned(spec, "the pilot ends before it could"))
            elif self.watch.cancelled(spec["a"]):
                self.tell({"f": "ended", "a": spec["a"], "k": spec["k"], "r": "cancelled"})
                self.watch.ended(spec["a"])
            else:
                lane.task = Task(spec, lane.slot)
                fact = yield from self.runner.attempt(lane.task, lane.pack, known, lane.share.gpus)
                lane.task = None
                lane.share.used_memory = lane.share.used_disk = 0
                if self.fenced:
                    return
                if lane.pack.dirty:
                    self._packs.append(lane.pack)
                self.tell(fact)
                if spec.get("software"):
                    self.claims.shun(lane.name, self.runner.software.refused(spec["software"]))
                if fact["r"] == "ok":
                    good.add(spec["a"])
                self.watch.ended(spec["a"])

    def _resume(self, lane: Lane, value: "Any", error: "BaseException | None") -> None:
        """Lets a lane go on to the next thing that it must wait for."""
        assert lane.life is not None
        try:
            wanted = lane.life.send(value) if error is None else lane.life.throw(error)
        except StopIteration:
            self._end_lane(lane)
            return
        if callable(wanted):
            thread = threading.Thread(target=self._elsewhere, args=(lane, wanted), name="stage")
            thread.daemon = True
            thread.start()
        else:
            self.reaper.waiting[wanted] = lane

    def _elsewhere(self, lane: Lane, work: "Any") -> None:
        """In a thread: something that may take long, and whose end wakes the loop."""
        try:
            self.done.append((lane, work(), None))
        except (Problem, Unrun, OSError) as error:
            self.done.append((lane, None, error))
        except Exception as error:
            self.done.append((lane, None, Problem("node", f"{type(error).__name__}: {error}")))
        try:
            os.write(self._writer, b"\0")
        except OSError:
            pass

    def _end_lane(self, lane: Lane) -> None:
        now = time.time()
        self._short = now - lane.began < _SHORT
        self._last_work = now
        if lane.pack.finish():
            self._packs.append(lane.pack)
            self.syncer.poke()
        self.lanes.remove(lane)
        self.room.give_back(lane.share)
        self._slots.append(lane.slot)
        if not self.fenced:
            self.finished.append((self.journal.added, lane.name))
        self._next_poll = 0.0

    def _blame(self, code: int) -> "tuple[str, str | None, str] | None":
        if code == -signal.SIGKILL and self.memory.happened():
            return "error", "resource", "memory: killed by the kernel, the node or the batch job had no more"
        if self.drain == "SIGTERM" or signal.SIGTERM in self._signals:
            return "evicted", None, "ended when the batch system ended the pilot"
        return None

    def _source_of(self, origin: "list[str]", name: str) -> str:
        if origin[0] == "cache":
            return self.spool.blob(origin[1])
        return f"{self.spool.stored(origin[1])}/{spool.check_name(name)}"

    def _sync_packs(self) -> None:
        packs, self._packs = self._packs, []
        for pack in packs:
            pack.sync()


def main(start: Start) -> int:
    """Runs an agent to its end in this process; its exit code (0, 1, or FENCED)."""
    return Agent(start).run()
