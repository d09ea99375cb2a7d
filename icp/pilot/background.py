"""Batch jobs where there is no batch system: started detached, known by pid, start time and boot (hides daemons
and their files).
"""

import json
import os
import signal
import sys
import time

from . import node, supervisor

__all__ = ["kill", "launch", "ps"]


def launch(folder: str) -> int:
    """Starts ``folder/submit.sh`` in a session of its own, and prints its id once that runs; 0, or 1 where it
    could not.
    """
    folder = os.path.abspath(folder)
    script = folder + "/submit.sh"
    if not os.path.isfile(script):
        sys.stderr.write(f"launch: {script} does not exist\n")
        return 1
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            os.close(reader)
            _detached(folder, writer)
        finally:
            os._exit(1)
    os.close(writer)
    os.waitpid(first, 0)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read().decode("ascii")
    if not told:
        sys.stderr.write(f"launch: {script} could not be started, see {folder}/out\n")
        return 1
    sys.stdout.write(told + "\n")
    return 0


def _detached(folder: str, writer: int) -> None:
    """The job: leads its session, runs the script, waits until everything that came of it has ended, writes
    ``exit``.
    """
    # The session is the first child's, which is gone: no terminal can become ours, but the group must be our own to be
    # killed as one.
    os.setpgid(0, 0)
    supervisor.become_subreaper()
    os.chdir(folder)
    out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    me = os.getpid()
    entry = {"pid": me, "start": node.start_time(me), "boot": node.boot_id(), "host": node.host()}
    _put("pid", json.dumps(entry, sort_keys=True))
    child = os.fork()
    if child == 0:
        os.closerange(3, 256)
        os.execv("/bin/sh", ["/bin/sh", "submit.sh"])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(writer, (f"pid:{me}:{entry['start']}:{entry['boot']}").encode("ascii"))
    os.closerange(3, 256)
    status = 0
    while True:
        try:
            pid, got = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == child:
            status = got
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    _put("exit", json.dumps({"rc": code, "t": round(time.time(), 3)}))
    os._exit(0)


def _put(path: str, text: str) -> None:
    with open(path + ".tmp", "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(path + ".tmp", path)


def _read(path: str) -> "dict[str, object] | None":
    try:
        with open(path) as stream:
            value = json.load(stream)
        return value if isinstance(value, dict) else None
    except (OSError, ValueError):
        return None


def state(folder: str) -> "dict[str, object] | None":
    """{"id", "state", "exit"} of the job started in this folder, None if there is none; ``unknown`` is what
    another host started.
    """
    entry = _read(folder + "/pid")
    if entry is None:
        return None
    name = f"pid:{entry['pid']}:{entry['start']}:{entry['boot']}"
    ended = _read(folder + "/exit")
    if ended is not None:
        return {"id": name, "state": "ended", "exit": ended.get("rc")}
    if entry["host"] != node.host():
        return {"id": name, "state": "unknown", "exit": None}
    running = entry["boot"] == node.boot_id() and node.alive(int(str(entry["pid"])), int(str(entry["start"])))
    return {"id": name, "state": "running" if running else "ended", "exit": None}


def ps(root: str) -> int:
    """Prints one JSON line for every pilot's folder below ``root`` in which a job was started."""
    for pilot in sorted(os.listdir(root)):
        known = state(f"{root}/{pilot}")
        if known is not None:
            sys.stdout.write(json.dumps(dict(known, pilot=pilot), sort_keys=True) + "\n")
    return 0


def kill(folder: str, now: bool) -> int:
    """SIGTERM (``now``: SIGKILL) to the whole process group of a job, as a batch system would; 0 also if it has
    ended, 5 if unknown.
    """
    known = state(folder)
    if known is None or known["state"] == "ended":
        return 0
    if known["state"] == "unknown":
        sys.stderr.write(f"kill: {folder} was started on another host\n")
        return 5
    try:
        os.killpg(int(str(known["id"]).split(":")[1]), signal.SIGKILL if now else signal.SIGTERM)
    except ProcessLookupError:
        pass
    return 0
