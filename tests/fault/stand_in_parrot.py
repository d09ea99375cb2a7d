"""Stand-in for parrot_run: its command line, and a namespace of bubblewrap where Parrot redirects system calls. What else it does it does as
cctools 7.17 with libcvmfs 2.12 did: it traces, waits for everything that it traces and counts none of it, leaves the process group, notes
each program on its standard error, lets its client speak on the standard output, and knows no quota.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SEIZE, CONT, LISTEN, GETEVENTMSG = 0x4206, 7, 0x4208, 0x4201
FORK, VFORK, CLONE, EXIT, STOP = 1, 2, 3, 6, 128
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def main(words: list[str]) -> int:
    flags = os.environ.get("PARROT_DEBUG_FLAGS", "")
    mounts: list[tuple[str, str, str]] = []
    group = True
    log = ""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--check-driver":
            say(1, "cvmfs is enabled")
            return 0 if words[0] == "cvmfs" else 1
        if word == "--no-set-foreground":
            group = False
        elif word == "-m":
            with open(words.pop(0)) as stream:
                mounts += [(target, source, mode) for target, source, mode in map(str.split, stream)]
        elif word == "--cvmfs-option":
            key, _, value = words.pop(0).partition("=")
            log = value if key == "CVMFS_USYSLOG" else log
        else:
            say(1, f"Use: parrot_run [options] <command> ...: {word}")
            return 1
    os.makedirs(os.environ["PARROT_TEMP_DIR"], exist_ok=True)
    options = []
    for name in sorted(os.listdir("/")):
        path = "/" + name
        options += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--dev-bind-try", path, path]
    for target, source, mode in mounts:
        options += ["--bind" if "w" in mode else "--ro-bind", source, target]
    if not mounts and words != ["/bin/true"]:
        options += client(log)
    if "clear" not in flags:
        said = f"notice: warning: system call 334 (unknown334) not supported for program {words[0]}"
        say(2, f"2026/11/28 00:01:52.57 parrot_run[{os.getpid()}]<child:{os.getpid()}> {said}")
    return traced(["bwrap", *options, "--setenv", "PARROT_ENABLED", "TRUE", "--chdir", os.getcwd(), "--", *words], group)


def client(log: str) -> list[str]:
    """What the driver for CVMFS does when the command looks at /cvmfs for the first time."""
    told = os.environ.get("PARROT_CVMFS_REPO", "")
    mine = [one for one in told.split() if one.startswith("test.repo:")]
    say(1, "LibCvmfs version 2.12, revision 31")
    wrong = ""
    if "quota_limit" in told:
        wrong = "Unknown repo option: quota_limit"
    elif not mine or "wrong" in mine[0]:
        wrong = "Attaching test.repo failed: Failed to initialize root file catalog (16)"
        if log:
            with open(log, "a") as stream:
                stream.write("Sat Nov 28 00:44:35 2026 (libcvmfs) whitelist verification failed (6): invalid whitelist signature\n")
    if wrong:
        say(2, wrong)
        return []
    cache = os.environ.get("PARROT_CVMFS_ALIEN_CACHE") or os.environ["PARROT_TEMP_DIR"] + "/cvmfs"
    os.makedirs(cache, exist_ok=True)
    with open(cache + "/cvmfschecksum.test.repo", "w") as stream:
        stream.write("b29d1ffedcb25e5462ecf1bb3f3624bdd9fd7464T1795825304")
    shown = ["--ro-bind", os.environ["TEST_TREE"] + "/test.repo", "/cvmfs/test.repo", "--ro-bind", "/dev/null", "/cvmfs/test.repo/.cvmfspublished"]
    return ["--setenv", "SEEN", os.environ["HTTP_PROXY"], *shown]


def say(fd: int, text: str) -> None:
    os.write(fd, text.encode() + b"\n")


def ptrace(request: int, pid: int, data: int = 0) -> int:
    return int(libc.ptrace(request, pid, None, data))


def traced(argv: list[str], group: bool) -> int:
    """Runs it and traces all that descends from it; ends when all of it has."""
    ready, go = os.pipe()
    root = os.fork()
    if not root:
        if group:
            os.setpgrp()
        os.close(go)
        os.read(ready, 1)
        os.close(ready)
        os.execvp(argv[0], argv)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(root, number))
    if ptrace(SEIZE, root, sum(1 << one for one in (FORK, VFORK, CLONE, EXIT))):
        say(2, "could not trace child")
        return 1
    os.write(go, b"x")
    os.close(go)
    os.close(ready)
    live, ended, code = {root}, set(), 1
    while live - ended:
        try:
            pid, status = os.waitpid(-1, 0x40000000)
        except ChildProcessError:
            break
        live.add(pid)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            ended.add(pid)
            if pid == root and code == 1:
                code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            continue
        event, number = status >> 16, os.WSTOPSIG(status)
        if event in (FORK, VFORK, CLONE, EXIT):
            message = ctypes.c_ulong()
            libc.ptrace(GETEVENTMSG, pid, None, ctypes.byref(message))
            if event == EXIT:
                ended.add(pid)
                if pid == root:
                    code = 128 + os.WTERMSIG(message.value) if os.WIFSIGNALED(message.value) else os.WEXITSTATUS(message.value)
            else:
                live.add(message.value)
            ptrace(CONT, pid)
        elif event == STOP:
            ptrace(CONT if number == signal.SIGTRAP else LISTEN, pid)
        else:
            ptrace(CONT, pid, number)
    return code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
