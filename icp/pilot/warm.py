"""Interpreters that have a module's libraries loaded, from which its tasks are forked (hides when that is right to do,
and what is done where it is not).

A module's own file is compiled once and run anew in each task: only libraries are shared, so that nothing that a task
does, or draws at random while its file is loaded, is the same in the next.
"""

import json
import marshal
import os
import select
import signal
import socket
import struct
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .task import Slot

__all__ = ["Warm"]

MOST = 4
"""Interpreters that are kept at a time."""
_KNOWN = 1000
_FIRST = 2
"""A module that is started so often is worth an interpreter."""
_READY = 60.0
_PATIENCE = 0.2
_ROOM = socket.CMSG_SPACE(4)
_MESSAGE = 100000
"""Bytes of one message on a socket, whatever the system's limits are."""
_OWN = ("ICP_TMP", "TMPDIR", "ICP_STATS", "ICP_ATTEMPT", "ICP_DATASET", "ICP_JOB", "ICP_TASK", "CUDA_VISIBLE_DEVICES")
"""What differs between tasks in the environment of a step; the rest an interpreter may have read when it started."""

BOOT = (
    "import sys; sys.version_info >= (3, 6) or sys.exit(1); sys.path[0] = sys.argv[1];"
    " from icp.pilot.warm_child import main; sys.exit(main(sys.argv[2]))"
)


class Warm:
    """The warm interpreters of one agent."""

    def __init__(self, folder: str, packs: str, own: "set[int]", killed: "set[int]") -> None:
        """``folder`` has the pilot's modules for tasks, ``packs`` shipped files, which nobody changes; ``own`` are the
        children of the agent that are no task's, ``killed`` those that it killed and has not yet waited for.
        """
        self._folder, self._packs, self._own, self._killed = folder, packs + "/", own, killed
        self._real: dict[str, str] = {}
        self._used: dict[Any, int] = {}
        self._kept: dict[Any, _Interpreter] = {}

    def start(self, program: str, wanted: "dict[str, Any]", env: "dict[str, str]", slot: "Slot") -> int:
        """The pid of a step that does what is ``wanted``, in a session of its own; 0 where it must be started as any
        other program.
        """
        if env.get("CUDA_VISIBLE_DEVICES"):
            return 0  # What a driver has opened does not survive a fork.
        file = ""
        if not wanted.get("module"):
            file = self._shipped(slot.work, wanted["file"])
            if not file:
                return 0  # A task may have written it.
        kept = {name: value for name, value in env.items() if name not in _OWN}
        key = (program, wanted.get("module"), file, wanted.get("root"), frozenset(kept.items()))
        if len(self._used) > _KNOWN:
            self._used.clear()
        used = self._used[key] = self._used.get(key, 0) + 1
        found = self._kept.pop(key, None)
        if found is None and _FIRST <= used:
            found = self._new(key, program, wanted, file, kept, slot)
        if found is None:
            return 0
        self._kept[key] = found  # The last used one is the last.
        pid = found.start({
            "wanted": wanted, "work": slot.work, "out": slot.folder + "/out", "err": slot.folder + "/err",
            "env": {name: env[name] for name in _OWN if name in env},
        })  # fmt: skip
        if found.dead:
            self._forget(key)
        return pid

    def _shipped(self, work: str, name: str) -> str:
        """The path of a shipped file to which this name leads, empty where it does not: shipped are links in the task's
        directory, and what is below them.
        """
        first, slash, rest = name.partition("/")
        try:
            target = os.readlink(f"{work}/{first}") + slash + rest
        except OSError:
            return ""
        if not target.startswith(self._packs):
            return ""
        if target not in self._real:
            path = os.path.realpath(target)
            self._real[target] = path if path.startswith(os.path.realpath(self._packs) + "/") else ""
        return self._real[target]

    def look(self) -> None:
        """Gets to know of all forks that are there, so that they are nobody's orphans."""
        for found in self._kept.values():
            found.look()

    def _forget(self, key: "Any") -> None:
        """What could not be kept alive is not tried again."""
        found = self._kept.pop(key)
        found.end()
        if found.pid in self._own:  # It was not waited for, so its number is its own.
            try:
                os.kill(found.pid, signal.SIGKILL)
            except OSError:
                pass
        self._used[key] = -(10**9)

    def _new(
        self, key: "Any", program: str, wanted: "dict[str, Any]", file: str, env: "dict[str, str]", slot: "Slot"
    ) -> "_Interpreter | None":
        about: dict[str, Any] = {"names": _OWN, "module": wanted.get("module"), "file": file, "roots": []}
        if file:
            root = os.path.dirname(file)
            about["roots"] = [root] + (
                [os.path.realpath(f"{slot.work}/{wanted['root']}")] if wanted.get("root") else []
            )
        try:
            found = _Interpreter(
                [program, "-c", BOOT, self._folder, json.dumps(about)], env, self._folder, self._own, self._killed
            )
        except OSError:
            self._used[key] = -(10**9)
            return None
        while len(self._kept) >= MOST:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest).end()
            self._used[oldest] = 0
        return found


class _Interpreter:
    """One of them, from here: a line, on which it hands over spare forks as (pid, descriptor), each of which waits to be told
    what to be.
    """

    def __init__(
        self, argv: "list[str]", env: "dict[str, str]", folder: str, own: "set[int]", killed: "set[int]"
    ) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=env,
                cwd=folder,
                start_new_session=True,
            )
        except OSError:
            self._line.close()
            raise
        finally:
            theirs.close()
        process.returncode = 0  # The agent's reaper waits for it.
        self.pid = process.pid
        own.add(self.pid)
        self.dead = False
        self._own, self._killed = own, killed
        self._spare: list[tuple[int, int]] = []
        self._ready = False
        self._since = time.time()

    def look(self, patience: float = 0.0) -> None:
        """Takes the spare forks that were handed over; waits so many seconds for the first."""
        if patience:
            select.select([self._line], [], [], patience)
        while not self.dead:
            try:
                said, more, _, _ = self._line.recvmsg(100, _ROOM, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                said, more = b"", []
            if not more:
                self.dead = True
                break
            self._ready = True
            self._spare.append((int(said), struct.unpack("i", more[0][2])[0]))
            self._own.add(int(said))
        if not self._ready and time.time() - self._since > _READY:
            self.dead = True

    def start(self, told: "dict[str, Any]") -> int:
        """The pid of a fork that does this; 0 where there is none."""
        message = marshal.dumps(told, 2)  # which every Python 3 reads
        if len(message) > _MESSAGE:
            return 0
        self.look()
        if not self._spare and self._ready:
            self.look(_PATIENCE)
            if not self._spare:
                self._ask()  # It may have been unable to.
        while self._spare:
            pid, spare = self._spare.pop(0)
            self._ask()
            self._own.discard(pid)
            try:
                if pid not in self._killed:
                    os.write(spare, message)  # Nothing else is ever written to it: there is room.
                    return pid
            except OSError:
                pass  # It was killed, and the reaper knows or will.
            finally:
                os.close(spare)
        return 0

    def _ask(self) -> None:
        """Another fork, please."""
        try:
            self._line.send(b"1")
        except OSError:
            self.dead = True

    def end(self) -> None:
        """It and its spare forks end when their sockets close."""
        self._line.close()
        for _, spare in self._spare:
            os.close(spare)
        self._spare = []
