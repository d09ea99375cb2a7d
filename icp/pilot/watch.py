"""What an agent looks at from time to time: heartbeat, orders in control/, limits of time, memory and disk, tails
(hides the samplers).
"""

import json
import os
import signal

from . import node, slots
from .disk import remove_tree, tree_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent, Lane
    from .task import Task

__all__ = ["Watch"]

TAIL = 64 * 1024
"""Bytes of each stream in a tail."""
_LONG, _TAIL_AGE, _TAIL_PAUSE, _DISK_PAUSE, _CONTROL_PAUSE = 1.0, 5.0, 5.0, 10.0, 1.0
_KILL_AFTER = 5.0


class Watch:
    """Looks once a second, and does each thing when it is due."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self.next = 0.0
        self._beat = self._control = self._disk = 0.0
        self._cancelled: set[str] = set()
        self._terminated: dict[int, float] = {}
        self._tails: set[str] = set()

    def cancelled(self, attempt: str) -> bool:
        return attempt in self._cancelled

    def ended(self, attempt: str) -> None:
        """Removes what spoke of an attempt while it ran."""
        if self._tails or self._cancelled:
            if attempt in self._tails:
                self._tails.discard(attempt)
                remove_tree(self._agent.spool.tail(attempt))
            if attempt in self._cancelled:
                self._cancelled.discard(attempt)
                remove_tree(f"{self._agent.spool.cancel}/{attempt}")

    def look(self, now: float) -> None:
        """Everything that is due at this time."""
        if now < self.next:
            return
        agent = self._agent
        self.next = now + 1.0
        if os.getppid() != agent.start.supervisor:
            agent.end("supervisor died")
        if now >= self._beat:
            if self._beat:
                agent.tell({"f": "beat", "busy": len(agent.lanes), "claimed": len(agent.lanes) + len(agent.backlog)})
                agent.adopt()
            self._beat = now + agent.heartbeat
        if agent.over:
            return
        if now >= self._control:
            self._control = now + _CONTROL_PAUSE
            self._orders()
        self._walltime(now)
        long = [lane for lane in agent.lanes if lane.task is not None and now - lane.task.since > _LONG]
        if long:
            self._phases(long)
            self._memory(long)
            self._time(long, now)
            self._copy_tails(long, now)
            if now >= self._disk:
                self._disk = now + _DISK_PAUSE
                self._disks(long)
        for pid, at in list(self._terminated.items()):
            if now >= at:
                del self._terminated[pid]
                if pid in agent.reaper.waiting:
                    task = agent.reaper.waiting[pid].task
                    if task is not None:
                        task.signal(signal.SIGKILL)

    # --- orders

    def _orders(self) -> None:
        agent = self._agent
        if not agent.drain and os.path.exists(f"{agent.spool.drain}/{agent.start.pilot}"):
            agent.begin_drain("ordered")
        if not agent.lanes and not agent.backlog:
            return
        try:
            names = os.listdir(agent.spool.cancel)
        except OSError:
            return
        if not names:
            return
        mine = {spec["a"] for lane in agent.lanes for spec in lane.specs} | {
            spec["a"] for one in agent.backlog for spec in one[1]
        }
        self._cancelled |= mine.intersection(names)
        for lane in agent.lanes:
            if lane.task is not None and lane.task.spec["a"] in self._cancelled:
                self._stop(lane.task, "cancelled", None, "cancelled by order")

    def _stop(self, task: "Task", result: str, kind: "str | None", text: str) -> None:
        """SIGTERM, and SIGKILL some seconds later."""
        if task.verdict is None:
            task.stop(result, kind, text, signal.SIGTERM)
            if task.pid:
                self._terminated[task.pid] = self.next - 1.0 + _KILL_AFTER

    def _walltime(self, now: float) -> None:
        agent = self._agent
        if agent.term_at is None:
            return
        if now >= agent.term_at:
            agent.begin_drain("walltime")
            for lane in agent.lanes:
                if lane.task is not None:
                    self._stop(lane.task, "evicted", None, f"the pilot ends: {agent.drain}")

    # --- limits

    def _phases(self, long: "list[Lane]") -> None:
        """A task that lasts tells where it is; a short one only that it ended."""
        for lane in long:
            task = lane.task
            assert task is not None
            if task.reported != task.phase:
                task.reported = task.phase
                at = round(task.since, 3)
                self._agent.tell({"f": task.phase, "a": task.spec["a"], "k": task.spec["k"], "at": at})

    def _time(self, long: "list[Lane]", now: float) -> None:
        for lane in long:
            task = lane.task
            assert task is not None
            limit = task.spec.get("time")
            if limit and task.phase == "running" and now - task.since > limit:
                self._stop(
                    task,
                    "error",
                    "resource",
                    f"time: still running after {int(now - task.since)} s, the task asked for {limit} s",
                )

    def _memory(self, long: "list[Lane]") -> None:
        """Adds up the resident memory of each task's processes; when the node runs out the largest offender is
        stopped.
        """
        agent = self._agent
        table = node.processes()
        below: dict[int, list[int]] = {}
        for pid, (parent, _, _) in table.items():
            below.setdefault(parent, []).append(pid)
        members = []
        for lane in long:
            task = lane.task
            assert task is not None
            pids = [pid for pid, (_, session, _) in table.items() if session == task.pid] if task.pid else []
            seen = set(pids)
            while pids:
                fresh = [one for one in below.get(pids.pop(), ()) if one not in seen]
                seen.update(fresh)
                pids += fresh
            members.append(seen)
            lane.share.used_memory = sum(table[pid][2] for pid in seen)
            task.peak = max(task.peak, lane.share.used_memory)
        if self._worst_memory() is not None:
            # Pages that processes share were counted for each of them: nobody is stopped for that.
            for lane, seen in zip(long, members):
                shares = [node.proportional(pid) for pid in seen]
                if None not in shares:
                    lane.share.used_memory = sum(one or 0 for one in shares)
        self._judge(
            "memory", [(lane, lane.share.memory, lane.share.used_memory) for lane in agent.lanes], agent.room.memory
        )

    def _worst_memory(self) -> "int | None":
        return slots.worst(
            [(lane.share.memory, lane.share.used_memory) for lane in self._agent.lanes], self._agent.room.memory
        )

    def _disks(self, long: "list[Lane]") -> None:
        agent = self._agent
        for lane in long:
            lane.share.used_disk = tree_bytes(lane.slot.folder)
        self._judge("disk", [(lane, lane.share.disk, lane.share.used_disk) for lane in agent.lanes], agent.room.disk)

    def _judge(self, what: str, table: "list[tuple[Lane, int, int]]", limit: int) -> None:
        index = slots.worst([(promised, used) for _, promised, used in table], limit)
        if index is None:
            return
        lane, promised, used = table[index]
        if lane.task is not None and lane.task.pid:
            figures = f"used {used // 1000000} MB, asked for {promised // 1000000} MB"
            lane.task.stop(
                "error", "resource", f"{what}: {figures}, and the node ({limit // 1000000} MB) had no more to lend"
            )

    # --- tails

    def _copy_tails(self, long: "list[Lane]", now: float) -> None:
        """The end of what a running task printed goes to the spool, for those who follow it."""
        for lane in long:
            task = lane.task
            assert task is not None
            if task.phase != "running" or now - task.began < _TAIL_AGE or now - task.last_tail < _TAIL_PAUSE:
                continue
            task.last_tail = now
            attempt = task.spec["a"]
            head, parts = {}, []
            for name, fd in (("out", lane.slot.out), ("err", lane.slot.err)):
                size = os.fstat(fd).st_size
                begin = max(0, size - TAIL)
                data = os.pread(fd, size - begin, begin)
                head[name] = [begin, len(data)]
                parts.append(data)
            path = self._agent.spool.tail(attempt)
            try:
                with open(path + ".tmp", "wb") as stream:
                    stream.write(json.dumps(head, sort_keys=True).encode("ascii") + b"\n" + b"".join(parts))
                os.rename(path + ".tmp", path)
                self._tails.add(attempt)
            except OSError:
                remove_tree(path + ".tmp")
