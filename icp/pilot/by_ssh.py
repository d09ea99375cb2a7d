"""Files by ssh: fetched and stored by OpenSSH's client of the node, with checksums from the other side (hides remote
shells and quoting).
"""

import os
import re
import shlex
import urllib.parse

from .outside import Outside, Unanswered
from .part import Broken, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["get", "put"]

_OPTIONS = ["-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=4"]
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_BEGIN = re.compile(rb"(?:\A|\n)ICP-BEGIN (\d+) ([0-9a-f]{64}|none)\n")
_MISSING, _WRONG = 66, 65
_NEVER = ("permission denied", "host key verification failed", "too many authentication failures", "not resolve hostname")
"""What ssh says that another try will not change, and that too many tries may get an account blocked for."""
_BLOCK = 1 << 18
_SUM = "{ sha256sum < %s || shasum -a 256 < %s; } 2>/dev/null"


def _target(url: str) -> "tuple[list[str], str]":
    """(ssh's words, the path as a shell's word); ``/~/x`` is below the home directory."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc
    port = ""
    if ":" in host:
        host, _, port = host.rpartition(":")
    path = urllib.parse.unquote(parts.path)
    if not _HOST.match(host) or not (port == "" or port.isdigit()) or "\0" in path or not path or path.endswith("/"):
        raise Broken("it is no ssh://[user@]host[:port]/path", again=False)
    path = "./" + path[3:] if path.startswith("/~/") else path
    return ["ssh", *_OPTIONS, *(["-p", port] if port else []), host], shlex.quote(path)


def get(url: str, part: Part, folder: str) -> None:
    """One try; Broken. It goes on where it broke off if the checksum at the other side is still the same."""
    words, path = _target(url)
    if part.mark is None:
        part.restart()
    script = (
        f"[ -f {path} ] || {{ echo no such file >&2; exit {_MISSING}; }}; s=$(wc -c < {path}) || exit 1; "
        f"h=$({_SUM % (path, path)}); h=${{h%% *}}; echo; echo ICP-BEGIN $s ${{h:-none}}; exec tail -c +{part.have + 1} {path}"
    )
    with _run([*words, "exec sh -c " + shlex.quote(script)], folder, reads=True) as running:
        head = b""
        begun = False
        try:
            for data in running.blocks(part.limits.silent if begun else part.limits.command, part.given_up):
                if begun:
                    part.add(data)
                    continue
                head += data
                found = _BEGIN.search(head)
                if found:
                    begun = True
                    size, digest = int(found.group(1)), found.group(2).decode("ascii")
                    if part.mark is not None and part.mark != digest:
                        part.restart()
                        raise Broken("the file changed meanwhile")
                    part.total, part.mark = size, None if digest == "none" else digest
                    part.told = part.mark
                    if head[found.end() :]:
                        part.add(head[found.end() :])
                elif len(head) > _BLOCK:
                    raise Broken("the other side says too much that is no file", again=False)
            code = running.end(part.limits.silent, part.given_up)
        except Unanswered as error:
            raise Broken(str(error)) from error
        if code != 0:
            raise _failed(code, running)
    if part.have != part.total:
        raise Broken(f"it broke off behind {part.have} of {part.total} bytes")


def put(url: str, path: str, sha256: str, part: Part, folder: str) -> None:
    """Stores a file under its name once its checksum at the other side is right; Broken."""
    words, target = _target(url)
    temporary = target + "." + os.urandom(8).hex() + ".part"
    script = (
        f"[ ! -d {target} ] || {{ echo is a directory >&2; exit {_MISSING}; }}; "
        f'mkdir -p "$(dirname {target})" && trap "rm -f {_inner(temporary)}" EXIT && cat > {temporary} && '
        f"h=$({_SUM % (temporary, temporary)}) && "
        f'case $h in {sha256}*) mv -f {temporary} {target};; *) echo "sha256 ${{h%% *}} arrived, expected {sha256}" >&2; exit {_WRONG};; esac'
    )
    with _run([*words, "exec sh -c " + shlex.quote(script)], folder, writes=True) as running:
        try:
            with open(path, "rb") as source:
                for block in iter(lambda: source.read(_BLOCK), b""):
                    if not running.write(block, part.limits.silent, part.given_up):
                        break
            running.end_of_input()
            code = running.end(part.limits.command, part.given_up)
        except Unanswered as error:
            raise Broken(str(error)) from error
        if code != 0:
            raise _failed(code, running)


def _inner(word: str) -> str:
    """A quoted word inside of double quotes, expanded once more when the trap runs."""
    return re.sub(r'([\\$`"])', r"\\\1", word)


def _run(argv: "list[str]", folder: str, **how: "Any") -> Outside:
    try:
        return Outside(argv, folder, **how)
    except OSError as error:
        raise Broken(f"ssh cannot be started: {error.strerror}", again=False) from error


def _failed(code: "int | None", running: Outside) -> Broken:
    said = running.last_words()
    never = code in (_MISSING, 127) or any(word in said.lower() for word in _NEVER)
    return Broken(said or ("ssh was killed" if code is None else f"ssh ended with exit code {code}"), again=not never)
