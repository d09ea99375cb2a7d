"""One card from begin to end: its attempts in order, the steps of each, and the fact that each ends with (hides
spawning and logs).

An attempt is a generator. It yields the pid of a process that it waits for, or a function that may take long; whoever
drives it (the agent's loop, or :func:`here.run_card_here` in the foreground) sends back (wait status, rusage), or the
function's result.
"""

import errno
import os
import resource
import signal
import sys
import time

from .problem import Unrun
from .python_start import PythonStart, settled
from .software import Software
from .stage import Problem, Stage, statistics
from .task import Pack, Slot, Task, capped
from .warm import Warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

__all__ = ["Runner", "returned"]

ERR_LIMIT = 4000
MOVED = 60
"""Transfers that a fact tells of: a line of a journal is not longer than 64 KiB."""
_RESET = [
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
]
_SPAWNS = hasattr(os, "posix_spawn")


class Runner:
    """Runs attempts on this node: what they all share."""

    def __init__(
        self,
        stage: Stage,
        agent: str,
        scratch: str,
        platform: "Callable[[], str]",
        sweep: "Callable[[str], None]",
        blame: "Callable[[int], tuple[str, str | None, str] | None]" = lambda code: None,
        software: "dict[str, Any] | None" = None,
        tell: "Callable[[dict[str, Any]], Any]" = lambda fact: None,
    ) -> None:
        """``sweep(attempt)`` ends the processes that an attempt left behind outside of its session;
        ``blame(exit)`` is the verdict on a task that failed for no reason of its own, as far as that can be seen;
        ``software``: how the site comes by software environments.
        """
        self._stage, self._scratch, self._platform, self._sweep = stage, scratch, platform, sweep
        self._blame = blame
        self.base = {
            name: value for name, value in os.environ.items() if name != "ICP_FAULT" and not name.startswith("PYTHON")
        }
        self.base.update(ICP_AGENT=agent, ICP_SCRATCH=scratch)
        self.software = Software(software, scratch, self.base, stage.lend, tell)
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._found: dict[tuple[str, str], str] = {}
        self._start = PythonStart(scratch + "/python")
        self.warm: Warm | None = None
        """Where a Python module may be forked from; set by who takes in orphans, and so can wait for such a fork."""

    def attempt(
        self, task: Task, pack: Pack, known: "dict[tuple[str, str], str]", gpus: "list[str]"
    ) -> "Generator[Any, Any, dict[str, Any]]":
        """Runs one attempt: the ``ended`` fact, without number and time."""
        spec, slot = task.spec, task.slot
        fact: dict[str, Any] = {"f": "ended", "a": spec["a"], "k": spec["k"], "r": "ok", "exit": None}
        times = [round(task.began, 3)] * 4
        cpu, rss = 0.0, 0
        out: list[list[Any]] = []
        moved: list[list[Any]] = []
        problem: tuple[str, str] | None = None
        complete = False
        try:
            links = self._stage.links(spec)
            if not slot.refresh(links):
                if links is None:
                    yield lambda: self._stage.bring_in(spec, slot.work, known, moved, lambda: task.verdict is not None)
                else:
                    for name, target in links.items():
                        os.symlink(target, f"{slot.work}/{name}")
            if spec.get("software"):
                fact["had"] = yield lambda: self.software.prepare(spec["software"], os.path.basename(slot.folder))
                self.software.report()
            times[1] = times[2] = round(task.enter("running"), 3)
            for step in spec["steps"]:
                if task.verdict is not None:
                    break
                task.pid = self._spawn(task, step, gpus)
                status, usage = yield task.pid
                task.pid = 0
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                fact["exit"] = code
                fact["exit"], its_cpu, its_rss = self.software.ended(step, spec, code, usage, slot)
                cpu, rss = cpu + its_cpu, max(rss, its_rss)
                if fact["exit"] != 0:
                    if fact["exit"] == -signal.SIGTERM and task.verdict is None:
                        # A batch system that ends a job signals all its processes: ours may not have come yet.
                        yield lambda: time.sleep(0.5)
                    task.verdict = task.verdict or self._blame(fact["exit"])
                    break
            self._sweep(spec["a"])
            times[2] = round(task.enter("storing"), 3)
            if task.verdict is None and not fact["exit"]:
                if spec.get("out"):
                    out = yield lambda: self._stage.take_out(spec, slot.work, moved, lambda: task.verdict is not None)
                complete = True
        except Problem as error:
            self.software.report()
            problem = (error.kind, str(error))
            if error.gone:
                fact["gone"] = error.gone
        except Unrun as error:
            task.verdict = task.verdict or ("returned", None, str(error))
        except OSError as error:
            problem = ("node", f"the task cannot be run in {slot.folder}: {error}")
        times[3] = round(time.time(), 3)
        # Until it calls execve(2) the child counts as big as this process is: so much tells nothing of the task.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        fact.update(ph=times, cpu=round(cpu, 3), rss=max(rss if rss > own else 0, task.peak))
        if out:
            fact["out"] = out
            for _, name, _, sha256 in out:
                known[(spec["a"], name)] = sha256
        if moved:
            fact["moved"] = moved[:MOVED]
        tail = self._logs(task, pack, fact)
        if os.path.exists(slot.stats):
            stats, wrong = statistics(slot.stats)
            if stats:
                fact["stats"] = stats
            if wrong:
                fact["stats_err"] = wrong
        # A task that was told to end and then exits with 0 has not done its work; one that had done it all before is
        # ok.
        _judge(fact, None if complete else task.verdict, problem, tail)
        return fact

    def _logs(self, task: Task, pack: Pack, fact: "dict[str, Any]") -> str:
        """Appends the captured output to the pack; the last of stderr as text."""
        try:
            out, err = capped(task.slot.out), capped(task.slot.err)
            if out or err:
                log = pack.append(out, err)
                if log is not None:
                    fact["log"] = log
            return err[-ERR_LIMIT:].decode("utf-8", "replace")
        except OSError as error:
            fact["log_err"] = f"the log cannot be kept: {error.strerror}"
            return ""

    # --- processes

    def _spawn(self, task: Task, step: "dict[str, Any]", gpus: "list[str]") -> int:
        """Starts a step in a session of its own; its pid. Problem where that is the task's own fault."""
        spec, slot = task.spec, task.slot
        env = dict(self.base)
        env["ICP_TMP"] = env["TMPDIR"] = slot.tmp
        env["ICP_STATS"] = slot.stats
        env["ICP_ATTEMPT"] = spec["a"]
        env["ICP_DATASET"], env["ICP_JOB"], env["ICP_TASK"] = str(spec["dataset"]), str(spec["job"]), spec["task"]
        env["ICP_PLATFORM"] = self._platform()
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        if step.get("env"):
            for name, value in step["env"].items():
                env[name] = value if isinstance(value, str) else self._fill(value, slot)
        argv: list[str] = []
        try:
            if "python" not in step:
                argv = [part if isinstance(part, str) else self._fill(part, slot) for part in step["argv"]]
            else:
                pid, argv = self._python(slot, step, env)
                if pid:
                    return pid
            argv = self.software.wrap(step, spec, argv, env, slot)
            program = self._find(argv[0], env.get("PATH", os.defpath))
            if _SPAWNS:
                return self._posix_spawn(program, argv, env, slot)
            return self._fork_exec(program, argv, env, slot)
        except (OSError, ValueError, IndexError) as error:
            raise Problem(
                "payload", f"the command {argv[0] if argv else '(empty)'} cannot be started: {error}"
            ) from error

    def _python(self, slot: Slot, step: "dict[str, Any]", env: "dict[str, str]") -> "tuple[int, list[str]]":
        """A step that is a Python module: (pid, nothing) where it was forked from a warm interpreter, otherwise (0, its
        command). A software environment has a Python of its own, whatever that is.
        """
        python = "python3"
        wanted = settled(step, lambda part: self._fill(part, slot))
        if step.get("software") is None:
            try:
                python = self._find(python, env.get("PATH", os.defpath))
            except OSError:
                python = sys.executable
            if self.warm is not None:
                pid = self.warm.start(python, wanted, env, slot)
                if pid:
                    return pid, []
        return 0, self._start.command(wanted, slot.folder + "/module.json", python)

    def _fill(self, part: "Any", slot: Slot) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, list):
            return "".join(self._fill(one, slot) for one in part)
        name = part["node"]
        return slot.tmp if name == "tmp" else self._scratch if name == "scratch" else self._platform()

    def _find(self, name: str, path: str) -> str:
        if "/" in name:
            return name
        known = self._found.get((path, name))
        if known is None:
            for folder in path.split(":"):
                known = f"{folder}/{name}"
                if folder.startswith("/") and os.access(known, os.X_OK) and not os.path.isdir(known):
                    break
            else:
                raise OSError(errno.ENOENT, f"command not found on {os.uname().nodename}")
            self._found[(path, name)] = known
        return known

    def _posix_spawn(self, program: str, argv: "list[str]", env: "dict[str, str]", slot: Slot) -> int:
        os.chdir(slot.work)  # Only this thread spawns, and everything else uses absolute paths.
        dup = os.POSIX_SPAWN_DUP2  # novm
        actions = [(dup, self._null, 0), (dup, slot.out, 1), (dup, slot.err, 2)]
        try:
            return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)  # novm
        except NotImplementedError:
            return self._fork_exec(program, argv, env, slot)

    def _fork_exec(self, program: str, argv: "list[str]", env: "dict[str, str]", slot: Slot) -> int:
        import subprocess

        process = subprocess.Popen(
            argv,
            executable=program,
            env=env,
            cwd=slot.work,
            stdin=self._null,
            stdout=slot.out,
            stderr=slot.err,
            start_new_session=True,
        )
        process.returncode = 0  # It is waited for by whoever drives the generator.
        return process.pid


def _judge(
    fact: "dict[str, Any]", verdict: "tuple[str, str | None, str] | None", problem: "tuple[str, str] | None", tail: str
) -> None:
    """Fills in how the attempt ended: a decision from outside first, then a problem of ours, then the exit code."""
    if verdict is not None:
        fact["r"] = verdict[0]
        if verdict[1]:
            fact["kind"] = verdict[1]
        fact["err"] = verdict[2]
    elif problem is not None:
        fact.update(r="error", kind=problem[0], err=problem[1])
    elif fact["exit"]:
        code = fact["exit"]
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        fact.update(r="error", kind="payload", err=tail if tail.strip() else how)
    if fact["r"] != "ok":
        fact.pop("out", None)
        if tail.strip() and fact.get("err") != tail:
            fact["tail"] = tail


def returned(spec: "dict[str, Any]", why: str) -> "dict[str, Any]":
    """The fact of an attempt that never began."""
    return {"f": "ended", "a": spec["a"], "k": spec["k"], "r": "returned", "err": why}
