"""What this machine is and what is left on it of agents of ours (hides /proc, cgroups, and the node-local registry)."""

import errno
import json
import os
import time

from . import journal, spool
from .disk import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "alive",
    "boot_id",
    "children",
    "clean_up",
    "descendants",
    "file_system",
    "host",
    "kill_marked",
    "processes",
    "register",
    "remove_scratch",
    "start_time",
    "unregister",
]


def host() -> str:
    """The machine's name as it calls itself."""
    return os.uname().nodename


def boot_id() -> str:
    """8 hex digits that change when the machine boots."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read(8)
    except OSError:
        return "00000000"


# --- processes


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 if there is none (a zombie is none)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def alive(pid: int, start: int) -> bool:
    """Whether the very process that was noted with this start time still runs."""
    return start_time(pid) == start != 0


def processes() -> "dict[int, tuple[int, int, int]]":
    """(parent, session, resident bytes) of every process that can be read."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    fields = stream.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    found[int(name)] = (int(fields[1]), int(fields[3]), int(fields[21]) * page)
            except (OSError, IndexError, ValueError):
                pass
    return found


def proportional(pid: int) -> "int | None":
    """Resident bytes with shared pages divided among those who share them; None where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as stream:
            for text in stream:
                if text.startswith("Pss:"):
                    return int(text.split()[1]) << 10
    except FileNotFoundError:
        return 0 if not os.path.exists(f"/proc/{pid}") else None
    except (OSError, ValueError):
        pass
    return None


def children(pid: int) -> "list[int]":
    """The direct children of a process (zombies too, where the kernel lists them cheaply)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", 0) as stream:
            return [int(one) for one in stream.read().split()]
    except OSError:
        return [one for one, (parent, _, _) in processes().items() if parent == pid]


def descendants(pid: int) -> "list[int]":
    """What descends from a process, the last generation first: namespaces and sessions make no difference."""
    below: "dict[int, list[int]]" = {}
    for one, (parent, _, _) in processes().items():
        below.setdefault(parent, []).append(one)
    found, todo = [], [pid]
    while todo:
        fresh = below.get(todo.pop(), [])
        found += fresh
        todo += fresh
    return found[::-1]


def file_system(path: str) -> str:
    """The kind of file system that a directory is on (``ext4``, ``nfs4``, ``tmpfs``); "" where it cannot be told."""
    best, kind = "", ""
    try:
        real = os.path.realpath(path)
        with open("/proc/self/mountinfo") as stream:
            for text in stream:
                fields = text.split()
                mount = fields[4].replace("\\040", " ")
                below = mount in ("/", real) or real.startswith(mount + "/")
                if below and len(mount) >= len(best):
                    best, kind = mount, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return kind


def environment(pid: int, name: str) -> "str | None":
    """A variable in the environment with which a process was started; None if it has none or cannot be read."""
    wanted = name.encode() + b"="
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            for entry in stream.read().split(b"\0"):
                if entry.startswith(wanted):
                    return os.fsdecode(entry[len(wanted) :])
    except OSError:
        pass
    return None


def kill_marked(agent: str) -> bool:
    """Ends every process whose environment names this agent, and the sessions that these lead; whether none is left."""
    for _ in range(50):
        marked = [pid for pid in processes() if pid != os.getpid() and environment(pid, "ICP_AGENT") == agent]
        if not marked:
            return True
        table = processes()
        for pid in set(marked) | {pid for pid, (_, session, _) in table.items() if session in marked}:
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        time.sleep(0.02)
    return False


# --- the registry of agents on this node


def _home() -> str:
    return os.environ.get("ICP_NODE_DIR") or f"/tmp/icp-{os.geteuid()}"


def _registry(ledger: str) -> str:
    return f"{_home()}/{spool.check_id(ledger[:8])}"


def register(ledger: str, agent: str, entry: "dict[str, Any]") -> str:
    """Notes an agent, so that the next one here can clean up behind it; the path of the note. Raises OSError,
    Unsafe.
    """
    folder = _registry(ledger)
    text = json.dumps(dict(entry, agent=agent, boot=boot_id())).encode("ascii")
    for _ in range(10):
        for one in (_home(), folder):
            try:
                os.mkdir(one, 0o700)
            except FileExistsError:
                pass
        spool.check_root(folder)
        path = f"{folder}/{agent}.json"
        try:
            # Not of the random kind: a half written note is replaced by the next attempt.
            with open(path + ".tmp", "wb") as stream:
                stream.write(text)
            os.rename(path + ".tmp", path)
            return path
        except FileNotFoundError:
            continue  # The last agent here just left, and removed the folder.
    raise OSError(errno.ENOENT, "cannot note the agent", folder)


def unregister(path: str) -> None:
    """Removes the note, and the folders if it was the last."""
    for remove, one in (
        (os.unlink, path),
        (os.rmdir, os.path.dirname(path)),
        (os.rmdir, os.path.dirname(os.path.dirname(path))),
    ):
        try:
            remove(one)
        except OSError:
            pass


def remove_scratch(path: str) -> bool:
    """Removes an agent's scratch (whether nothing is left), and the folder for such in a spool if it was the last."""
    gone = remove_tree(path)
    if os.path.basename(os.path.dirname(path)) == "work":
        try:
            os.rmdir(os.path.dirname(path))
        except OSError:
            pass
    return gone


def clean_up(ledger: str) -> "list[str]":
    """Ends what dead agents of this ledger left on this node: processes, scratch, and the fact ``agent_died``;
    the agents' ids.
    """
    folder = _registry(ledger)
    try:
        names = [name for name in os.listdir(folder) if name.endswith((".json", ".json.tmp"))]
        spool.check_root(folder)
    except (OSError, spool.Unsafe):
        return []
    cleaned = []
    for name in names:
        agent = _clean_one(folder + "/" + name)
        if agent:
            cleaned.append(agent)
    return cleaned


def _clean_one(path: str) -> "str | None":
    import fcntl

    try:
        with open(path, "r+") as stream:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return None  # Another one is at it.
            try:
                entry = json.loads(stream.read())
                agent, same_boot = str(entry["agent"]), entry["boot"] == boot_id()
                running = same_boot and any(alive(pid, start) for pid, start in entry["processes"])
            except (ValueError, KeyError, TypeError):
                if time.time() - os.fstat(stream.fileno()).st_mtime > 60:
                    unregister(path)
                return None
            if running or (path.endswith(".tmp") and time.time() - os.fstat(stream.fileno()).st_mtime < 60):
                return None
            clean = kill_marked(agent) if same_boot else True
            clean = remove_scratch(entry["scratch"]) and clean
            note_death(entry["spool"] + "/agents/" + agent, clean, "noted by the next on this node")
            unregister(path)
            return agent
    except OSError:
        return None


def note_death(folder: str, clean: bool, why: str) -> None:
    """Appends ``agent_died`` to the supervisor's stream of this agent, unless it or the agent's own last fact is
    there.
    """
    from .orders import has_ended, read_stream

    try:
        if has_ended(folder):
            return
        facts = read_stream(folder, "supervisor")
        stream = journal.Journal(
            folder, "supervisor", journal.last_segment(folder, "supervisor"), facts[-1]["n"] if facts else 0
        )
    except OSError:
        return  # Fenced, or gone.
    stream.add({"f": "agent_died", "clean": clean, "why": why})
    pause = 0.1
    while not stream.flush() and os.path.isdir(folder) and pause < 30:
        time.sleep(pause)
        pause *= 2
    stream.close()
