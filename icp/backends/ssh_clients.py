"""Clients of ssh with a person at the terminal, and with nobody, those on the way to a host included (hides the program that stands in for ssh).

`BatchMode` is not handed on to the client of a ProxyJump, nor to one in a ProxyCommand. Where there is no terminal such a client answers
a jump host's question with nothing, three times: three failed logins for each try, which is how accounts get locked. And a client that
is to be a master throws away what the one on the way says.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["attended", "unattended"]


def unattended(folder: Path, environ: Mapping[str, str], said: str) -> dict[str, str]:
    """The environment for a client that nobody attends: the name `ssh` means one that never asks, and adds what it says to the file ``said``.

    ``folder`` is a private one of ours.
    """
    found = shutil.which("ssh", path=environ.get("PATH", os.defpath))
    if found is None:
        return dict(environ)
    place = folder / "bin"
    # ssh starts the client of the next jump by the name that it was called by itself: `ssh`, by PATH, so that this one is found again
    call = "import os, sys; os.dup2(os.open(os.environ['ICP_SSH_SAID'], os.O_WRONLY | os.O_APPEND), 2); "
    call += "os.execv(sys.argv[1], ['ssh', '-o', 'BatchMode=yes', *sys.argv[2:]])"
    text = "#!/bin/sh\n# nobody is there to answer: a host on the way that asks is left alone\n"
    text += f'exec {shlex.quote(sys.executable)} -I -S -c "{call}" {shlex.quote(found)} "$@"\n'
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
        if not (place / "ssh").exists() or (place / "ssh").read_text() != text:
            part = place / f"ssh.{os.getpid()}"
            part.write_text(text)
            part.chmod(0o700)
            part.replace(place / "ssh")
    return {**environ, "ICP_SSH_SAID": said, "PATH": f"{place}{os.pathsep}{environ.get('PATH', os.defpath)}"}


def attended(argv: Sequence[str]) -> tuple[int, str]:
    """Run a client that asks at the terminal: its exit code, and what it said on stderr, which is shown as it comes."""
    said = b""
    # the master leaves the terminal by itself, the client on the way to a jump host does not: it is to outlive it
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        assert process.stderr is not None
        pipe = process.stderr.fileno()
        os.set_blocking(pipe, False)
        ended = False
        # not to the end of the pipe: the master that goes to the background may keep it open
        while not ended or select.select([pipe], [], [], 0)[0]:
            ended = process.poll() is not None
            if not select.select([pipe], [], [], 0 if ended else 0.1)[0]:
                continue
            chunk = os.read(pipe, 65536)
            if not chunk:
                break
            os.write(2, chunk)
            said = (said + chunk)[-65536:]
        return process.wait(), said.decode("utf-8", "replace")
