"""The small process beside an agent that outlives it: ends what descends from it, removes the scratch, notes its
death (hides prctl).
"""

import json
import os
import signal
import sys
import time

from . import node, offer, spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Start", "batch_end", "become_subreaper", "die_with_parent", "end_descendants", "main", "prctl"]

FENCED = 3
"""Exit code of an agent whose folder was taken away: nothing may be written about it any more."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Start:
    """What an agent begins with: who it is and what its pilot was told."""

    def __init__(self, where: spool.Spool, pilot: str, index: int, told: "dict[str, Any]") -> None:
        self.spool, self.pilot, self.index, self.told = where, pilot, index, told
        self.agent = f"{pilot}.{index}.{os.urandom(8).hex()}"
        self.folder = where.agent(self.agent)
        self.scratch = self.note = ""
        self.supervisor = os.getpid()
        self.began = _began()


def _began() -> float:
    """When the batch job's script began, by this node's clock; now, where that cannot be (a task of another pilot inherits it)."""
    now = time.time()
    told = os.environ.pop("ICP_BEGAN", "")
    return float(told) if told.isdigit() and 0 <= now - float(told) < 3600 else now


def batch_end() -> "float | None":
    """When the batch system ends this job, where it says so: after a requeue too."""
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(told) if told.isdigit() and float(told) > time.time() else None


def main(root: str, pilot: str, index: int) -> int:
    """Runs one agent to its end; 0 if it ended by itself, 1 otherwise."""
    where = spool.Spool(os.path.abspath(root))
    try:
        spool.check_root(where.root)
        with open(where.pilot(pilot) + "/pilot.json", "rb") as stream:
            told = json.loads(stream.read().decode("utf-8"))
    except (spool.Unsafe, spool.BadName, OSError, ValueError) as error:
        sys.stderr.write(f"pilot {pilot} cannot start: {error}\n")
        return 1
    start = Start(where, pilot, index, told)
    node.clean_up(told["ledger"])
    base = offer.choose_scratch(told.get("scratch"), "", told.get("disk") or 1000 * 1000 * 1000)
    start.scratch = f"{base}/icp-{start.agent}" if base else f"{where.root}/work/{start.agent}"
    _register(start, [])
    while True:
        try:
            if not base:
                os.makedirs(where.root + "/work", mode=0o700, exist_ok=True)
            os.mkdir(start.scratch, 0o700)
            break
        except FileNotFoundError:
            if base:
                raise  # Else the last agent here just left, and removed the folder.
    os.mkdir(start.folder, 0o700)
    os.mkdir(start.folder + "/claimed", 0o700)
    become_subreaper()
    # A SIGTERM that comes now must find the agent's handler, or nobody who minds.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    child = os.fork()
    if child == 0:
        _be_agent(start)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        # Not possible where the batch system started this as the leader of its job: then ignoring signals must do.
        os.setsid()
    except OSError:
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGUSR1])
    _register(start, [child])
    return _watch(start, child)


def _register(start: Start, more: "list[int]") -> None:
    """Notes the processes on this node; without a safe place for that nobody will clean up behind a supervisor
    that is killed.
    """
    known = [[pid, node.start_time(pid)] for pid in [os.getpid(), *more]]
    entry = {"spool": start.spool.root, "scratch": start.scratch, "processes": known}
    try:
        start.note = node.register(start.told["ledger"], start.agent, entry)
    except (OSError, spool.Unsafe) as error:
        sys.stderr.write(f"pilot {start.pilot}: no note on this node: {error}\n")


def _be_agent(start: Start) -> None:
    code = 1
    try:
        die_with_parent(start.supervisor)
        from . import agent

        code = agent.main(start)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(code)


def _watch(start: Start, child: int) -> int:
    status = 0
    while True:
        try:
            pid, got = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == child:
            status = got
            break
    clean = end_descendants()
    clean = node.remove_scratch(start.scratch) and clean
    fenced = os.WIFEXITED(status) and os.WEXITSTATUS(status) == FENCED
    if not fenced:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        node.note_death(start.folder, clean, how)
    if clean:
        node.unregister(start.note)
    return 0 if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, FENCED) else 1


def end_descendants(patience: float = 30.0) -> bool:
    """Kills everything that descends from this process, which must be a subreaper; whether nothing is left after
    ``patience`` seconds.
    """
    deadline = time.time() + patience
    while True:
        for pid in node.children(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if time.time() > deadline:
            return False
        time.sleep(0.01)


# --- Linux


def prctl(option: int, value: int) -> bool:
    """prctl(2); False where this is not Linux or has no ctypes."""
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def become_subreaper() -> bool:
    """Orphans among our descendants become our children."""
    return prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """SIGUSR1 comes when the parent dies, at once if it is dead already."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGUSR1)
