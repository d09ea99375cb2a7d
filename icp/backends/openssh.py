"""Running a command on another host by OpenSSH's own client over one shared connection (hides masters, markers and quoting).

The user's ``~/.ssh/config`` decides how the host is reached: ProxyJump, keys, Kerberos and known hosts are theirs. What is ours:

- One shared connection for each host (``ssh -MNf``), started explicitly; work only ever goes over it, at most four sessions at
  once. Past a server's MaxSessions a client would silently open a connection of its own: a ProxyCommand that fails forbids that.
- What the command printed lies between two markers with a random word, so that banners and chatty ``.bashrc`` files do no harm,
  and its exit code is behind the second: ssh's own 255 cannot be taken for the command's.
- Our own timeouts. A killed client leaves the remote command running: its outcome is Unknown.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from icp.backends.base import Outcome, Result, Unknown
from icp.backends.ssh_clients import attended, unattended
from icp.backends.ssh_session import Session
from icp.backends.ssh_trouble import BACKOFF, Memory, Standing, Trouble, classify, refused_person
from icp.errors import BadInput

__all__ = ["SESSIONS", "OpenSSH", "leave", "remote_command"]

SESSIONS = 4
"""Sessions to one host at once, in this process."""
OUT_LIMIT = 64 * 1000 * 1000
CHECK_TIMEOUT = 3.0
"""Seconds that a master has to say that it is alive."""
MASTER_TIMEOUT = 60.0

HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*\Z")

OPTIONS = (
    "BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=4", "ClearAllForwardings=yes", "ForwardAgent=no",
    "ForwardX11=no", "RequestTTY=no", "PermitLocalCommand=no", "RemoteCommand=none", "LogLevel=ERROR",
)  # fmt: skip

_gates: dict[str, threading.BoundedSemaphore] = {}
_busy: dict[str, int] = {}
_gates_lock = threading.Lock()
_sessions: dict[str, set[Session]] = {}
_left = threading.Event()

def remote_command(script: str) -> str:
    """A POSIX sh script as one command line that sh, bash, csh, tcsh, zsh and fish all hand on unharmed.

    ``exec`` spends no process on the login shell. What any of them might touch even between single quotes (quotes, ``!`` of
    csh, backslashes of fish, newlines) travels as octal numbers.
    """
    if re.fullmatch(r"[ -~]*", script) and not re.search(r"[!'\\^]", script):
        return f"exec /bin/sh -c '{script}'"
    octal = "".join(char if re.fullmatch(r"[A-Za-z0-9 _./:=,@%+-]", char) else "".join(f"\\0{byte:03o}" for byte in os.fsencode(char))
                    for char in script)  # fmt: skip
    return f"exec /bin/sh -c 'eval \"$(printf %b \"{octal}\")\"'"


def leave() -> None:
    """This process ends: sessions that are under way are cut, and none begins any more."""
    _left.set()
    for some in list(_sessions.values()):
        for session in list(some):
            session.abort()


class OpenSSH:
    """A host as a Transport. Objects for the same host and folder share one connection, one limit and one memory of troubles.

    ``folder``: see ``control_folder``; ``config``: an ssh_config instead of the user's; ``connect_timeout`` in seconds;
    ``clock``: Unix time, for back-off only.
    """

    def __init__(
        self,
        host: str,
        folder: Path,
        *,
        config: Path | None = None,
        connect_timeout: int = 15,
        persist: str = "10m",
        backoff: Mapping[str, Sequence[float]] = BACKOFF,
        clock: Callable[[], float] = time.time,
        program: str = "ssh",
    ) -> None:
        if not HOST.match(host):
            raise BadInput(f"{host!r} is no name of a host", "expected what you would type after `ssh`: an alias of ~/.ssh/config, or user@host")
        self.host, self.clock = host, clock
        name = hashlib.sha256(f"{host}\0{config or ''}".encode()).hexdigest()[:16]
        self.socket = folder / name
        self.memory = Memory(folder / f"{name}.trouble", backoff)
        self.sessions = 0
        """How many sessions this object opened."""
        self.connections = 0
        """How many shared connections this object started."""
        self._base = [program, *(["-F", str(config)] if config else []), "-S", str(self.socket).replace("%", "%%")]
        for option in (*OPTIONS, f"ConnectTimeout={connect_timeout}"):
            self._base += ["-o", option]
        self._start = [*self._base, "-MNf", "-o", f"ControlPersist={persist}", "--", host]
        # ControlMaster=no and a proxy that fails: over the shared connection, or not at all
        self._work = [*self._base, "-T", "-o", "ControlMaster=no", "-o", "ProxyCommand=false", "--", host]
        with _gates_lock:
            self._gate = _gates.setdefault(str(self.socket), threading.BoundedSemaphore(SESSIONS))

    # -- what a Transport does ----------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Outcome:
        """``argv`` at the host, every word as it is. What a signal killed there has exit 128 + signal; what is not there, 127.

        Unknown: its end was not seen, or the host is left alone for a while after a failure. It takes ``timeout`` seconds at the
        most (ten times as long while much data moves), and CHECK_TIMEOUT more where the shared connection must be looked at.
        """
        if _left.is_set():
            return Unknown("this process is leaving")
        deadline = time.monotonic() + timeout
        left_alone = self.memory.wait(self.clock())
        if left_alone > 0:
            known = self.memory.standing()
            return Unknown(f"{known.trouble.text if known else self.host} (next try in {left_alone:.0f} s)")
        if not self._gate.acquire(timeout=max(0.0, timeout)):
            return Unknown(f"{SESSIONS} sessions to {self.host} are busy, none became free within {timeout:.0f} s")
        try:
            outcome, trouble = self._run(shlex.join(argv), stdin, deadline, timeout)
        finally:
            self._gate.release()
        if trouble is not None:
            self.memory.remember(trouble, self.clock())
        elif isinstance(outcome, Result) and self.memory.standing() is not None:
            self.memory.forget()
        return outcome

    def script(self, text: str, stdin: bytes, timeout: float) -> Outcome:
        """A POSIX sh script at the host."""
        return self.run(["/bin/sh", "-c", text], stdin, timeout)

    @property
    def standing(self) -> Standing | None:
        """The trouble with this host that is not over, if any."""
        return self.memory.standing()

    def try_now(self) -> None:
        """Forget the back-off: a person mended something, or asks to look. While a connection is open, nothing tells whether the host still asks."""
        if self.connected:
            self.memory.forget()
        else:
            self.memory.try_now()

    @property
    def needs_login(self) -> bool:
        """Whether the host lets only a person in, as the last try found."""
        known = self.memory.standing()
        return known is not None and known.trouble.kind in ("login", "person")

    @property
    def connected(self) -> bool:
        """Whether the shared connection is there now; none is made."""
        return self._state() == "up"

    def login_argv(self, persist: str = "yes") -> list[str]:
        """The command that opens the shared connection with a person at the terminal, for hosts that ask (one-time codes).

        It stays until either side ends it: ``persist`` is ControlPersist of ssh_config(5).
        """
        argv = [{"BatchMode=yes": "BatchMode=no", "LogLevel=ERROR": "LogLevel=INFO"}.get(word, word) for word in self._start]
        at = argv.index("-MNf") + 2
        # one answer, not three: the same code again is as wrong, and sites lock accounts by the number of wrong ones
        return [*argv[:at], f"ControlPersist={persist}", "-o", "NumberOfPasswordPrompts=1", *argv[at + 1 :]]

    def log_in(self, persist: str = "yes") -> Trouble | None:
        """Open the shared connection; ssh asks what it has to at this process's terminal. None: it is open."""
        with self._only_one(time.monotonic() + MASTER_TIMEOUT) as mine:
            if not mine:
                return Trouble("timeout", f"another process is connecting to {self.host}", "try again in a minute")
            if self._state() != "up":
                self._drop()
                code, said = attended(self.login_argv(persist))
                if code != 0 or self._state() != "up":
                    return refused_person(self.host, said, code)
        self.memory.forget()
        return None

    def without_agent(self, environ: Mapping[str, str], timeout: float = 30.0) -> Trouble | None:
        """What would prevent a new connection in this environment (cron's has no key agent); a connection of its own, closed at once."""
        argv = [*self._base, "-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "--", self.host, "exit 0"]
        del argv[argv.index("-S") : argv.index("-S") + 2]
        with tempfile.NamedTemporaryFile(prefix="icp-ssh-") as said, open(said.name, "ab") as end:
            code = _bounded(argv, end.fileno(), timeout, unattended(self.socket.parent, environ, said.name))
            printed = said.read(65536).decode("utf-8", "replace")
        if code is None:
            return Trouble("timeout", f"{self.host} did not complete a login within {timeout:.0f} s", "check the network or VPN")
        return classify(self.host, printed, key_agent="SSH_AUTH_SOCK" in environ) if code == 255 else None

    def hang_up(self) -> None:
        """Kill the clients of this host's sessions that are under way in this process; their outcome is Unknown. The shared connection stays."""
        for session in list(_sessions.get(str(self.socket), ())):
            session.abort()

    def close(self) -> None:
        """End the shared connection, and the sessions over it."""
        self._drop()

    # -- one session --------------------------------------------------------------------------------------------

    def _run(self, command: str, stdin: bytes, deadline: float, timeout: float) -> tuple[Outcome, Trouble | None]:
        trouble = self._connect(deadline)
        if trouble is None:
            session = self._session(command, stdin, deadline)
            if session.fell_back and self._state() == "none":
                # the shared connection ended after it was looked at. Nothing was sent yet: only then does a client try its proxy
                trouble = self._connect(deadline)
                session = session if trouble else self._session(command, stdin, deadline)
        if trouble is not None:
            return Unknown(trouble.text), trouble
        if session.code is not None:
            return Result(session.code, session.out, session.err), None
        if session.aborted:
            return Unknown(f"the conversation with {self.host} was cut short here", session.out), None
        if session.over_limit:
            return Unknown(f"the command at {self.host} printed more than {OUT_LIMIT // 1_000_000} MB", session.out), None
        state = self._state()
        stuck = state == "frozen" or (session.timed_out and not session.begun and _busy.get(str(self.socket), 0) == 0)
        if stuck and not self.memory.asks:  # what a person opened ends by itself if the other side does not answer
            self._drop(polite=state != "frozen")
        if session.begun:
            if session.timed_out and state == "up":
                return Unknown(f"the command at {self.host} did not end within {timeout:.0f} s", session.out), None
            why = f"the connection to {self.host} {'hangs' if session.timed_out else 'broke off while the command ran'}"
            return Unknown(why, session.out), self._lost()
        if session.timed_out:
            trouble = Trouble("hang", f"{self.host} did not begin to run a command within {timeout:.0f} s",
                              "a slow login, a hanging file system there, or a link that is down; it is tried again later")  # fmt: skip
        else:
            trouble = classify(self.host, session.err.decode("utf-8", "replace"))
            if trouble.kind in ("closed", "other"):
                trouble = self._lost() if state != "up" else Trouble(
                    "shell", f"the login shell of {self.host} ends before it runs a command",
                    f"`ssh {self.host} true` must work; look into the start-up files there")  # fmt: skip
        return Unknown(trouble.text), trouble

    def _session(self, command: str, stdin: bytes, deadline: float) -> Session:
        word = secrets.token_hex(16)
        text = f'printf "\n%s\n" {word} >&2; printf "%s\n" {word}; ({command}); printf "%s:%d\n" {word} $?'
        self.sessions += 1
        with self._counted():
            session = Session([*self._work, remote_command(text)], stdin, word.encode("ascii"), OUT_LIMIT)
            under_way = _sessions.setdefault(str(self.socket), set())
            under_way.add(session)
            try:
                session.talk(deadline)
            finally:
                under_way.discard(session)
        return session

    def _lost(self) -> Trouble:
        return Trouble("lost", f"the connection to {self.host} was lost", "it is made anew at the next try")

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        key = str(self.socket)
        with _gates_lock:
            _busy[key] = _busy.get(key, 0) + 1
        try:
            yield
        finally:
            with _gates_lock:
                _busy[key] -= 1

    # -- the shared connection ----------------------------------------------------------------------------------

    def _connect(self, deadline: float) -> Trouble | None:
        """See to it that there is a shared connection; what prevents it."""
        state = self._state(deadline)
        if state == "up":
            return None
        if self.memory.asks:
            # nor is anybody waited for who types at this moment
            return Trouble("hang", f"the shared connection to {self.host} does not answer", "it is left to itself, as only a person can open another") \
                if state == "frozen" else Trouble(
                    "person", f"no connection to {self.host} is open, and it asks whoever opens one for a password or a code",
                    "`icp login` opens it at a terminal, and ticks use it")  # fmt: skip
        with self._only_one(deadline) as mine:
            if not mine:
                return Trouble("timeout", f"another process has been connecting to {self.host} for too long", "it is tried again later")
            state = self._state(deadline)
            if state == "up":
                return None
            self._drop(polite=state != "frozen")
            return self._new_master(deadline)

    @contextlib.contextmanager
    def _only_one(self, deadline: float) -> Iterator[bool]:
        """A lock between threads and processes: of two masters for one socket the second would be a stray connection."""
        with open(f"{self.socket}.lock", "ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() >= deadline:
                        yield False
                        return
                    time.sleep(0.02)
                else:
                    yield True
                    return

    def _new_master(self, deadline: float) -> Trouble | None:
        patience = max(0.1, min(MASTER_TIMEOUT, deadline - time.monotonic()))
        self.connections += 1
        # a file: the master that goes to the background would keep a pipe open; always the same one, as engines are killed
        said = f"{self.socket}.said"
        with open(said, "w+b") as begin, open(said, "ab") as end:
            code = _bounded(self._start, end.fileno(), patience, unattended(self.socket.parent, os.environ, said))
            printed = begin.read(65536).decode("utf-8", "replace")
        os.unlink(said)
        if code is None:
            return Trouble("timeout", f"{self.host} did not complete a login within {patience:.0f} s", "check the network or VPN; it is tried again later")
        if code != 0 or not self.socket.exists():
            return classify(self.host, printed, key_agent="SSH_AUTH_SOCK" in os.environ)
        return None

    def _state(self, deadline: float | None = None) -> str:
        """``up``, ``none``, or ``frozen``: there, but without an answer within a few seconds."""
        if not self.socket.exists():
            return "none"
        patience = CHECK_TIMEOUT if deadline is None else max(0.1, min(CHECK_TIMEOUT, deadline - time.monotonic()))
        code = _bounded([*self._base, "-O", "check", "--", self.host], subprocess.DEVNULL, patience)
        return "up" if code == 0 else "frozen" if code is None else "none"

    def _drop(self, *, polite: bool = True) -> None:
        """End the master: by asking, then by its pid (found by the socket on its command line); then its socket goes."""
        if self.socket.exists():
            asked = polite and _bounded([*self._base, "-O", "exit", "--", self.host], subprocess.DEVNULL, CHECK_TIMEOUT) == 0
            for pid in [] if asked else _masters(str(self.socket)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.socket.unlink()


def _bounded(argv: Sequence[str], stderr: int, timeout: float, environ: Mapping[str, str] | None = None) -> int | None:
    """The exit code; None if it had to be killed. No pipes: what stays behind holds nobody up."""
    try:
        process = subprocess.Popen(
            argv, executable=shutil.which(argv[0]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
            close_fds=True, env=environ,
        )  # fmt: skip
    except OSError as error:
        if isinstance(stderr, int) and stderr >= 0:
            os.write(stderr, f"{argv[0]}: {error.strerror}".encode())
        return 127
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _masters(socket: str) -> list[int]:
    """Processes of ours that are masters of this socket (Linux; elsewhere none is found)."""
    found = []
    marks = (f"\0-S\0{socket.replace('%', '%%')}\0".encode(), f"ssh: {socket} [mux]".encode())
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if os.stat(f"/proc/{name}").st_uid == os.getuid() and (marks[1] in line or (marks[0] in line and b"\0-MNf\0" in line)):
                    found.append(int(name))
    return found
