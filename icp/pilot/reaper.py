"""The processes of an agent's tasks when they end, and those that they left behind (hides waiting, sessions and
orphans).
"""

import os
import signal

from . import node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .agent import Agent, Lane

__all__ = ["Reaper"]


class Reaper:
    """Waits for children; the agent is a subreaper, so orphans of its tasks become children too."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self.waiting: dict[int, Lane] = {}
        """The lanes whose task's main process has this pid."""
        self.own: set[int] = set()
        """Children of the agent that are no task's: warm interpreters, and forks that wait for a task."""
        self.killed: set[int] = set()
        """Orphans that were killed, until they are waited for."""
        self._orphans: dict[int, set[str]] = {}

    def ended(self) -> "Iterator[tuple[Lane, tuple[int, Any]]]":
        """The lanes whose process ended, with (wait status, rusage); what is left of its session is killed before.

        The process is still a zombie then, so that its number cannot be that of another session.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            lane = self.waiting.pop(pid, None)
            if lane is not None:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except OSError:
                    pass
            _, status, usage = os.wait4(pid, 0)
            if lane is not None:
                yield lane, (status, usage)
            else:
                self._orphans.pop(pid, None)
                self.own.discard(pid)
                self.killed.discard(pid)

    def sweep(self, attempt: str) -> None:
        """Kills orphans when the last of the attempts ends that were running when they were first seen: one of
        them left it.
        """
        new = [pid for pid in node.children(os.getpid()) if self._unknown(pid)]
        if new and self._agent.runner.warm is not None:
            self._agent.runner.warm.look()
        for pid in new:
            # What has not left a warm interpreter's session has yet to be handed over by it.
            if self._unknown(pid) and _session(pid) not in self.own:
                named = node.environment(pid, "ICP_ATTEMPT")
                live = {lane.task.spec["a"] for lane in self._agent.lanes if lane.task is not None}
                self._orphans[pid] = {named} if named is not None and named in live else live
        for pid, owners in list(self._orphans.items()):
            if pid in self.waiting or pid in self.own:
                # It was seen before it was handed over by a warm interpreter.
                del self._orphans[pid]
                continue
            owners.discard(attempt)
            if not owners:
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.killed.add(pid)
                except OSError:
                    self._orphans.pop(pid, None)

    def _unknown(self, pid: int) -> bool:
        return pid not in self.waiting and pid not in self._orphans and pid not in self.own


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
