"""The batch body of a pilot, as POSIX sh: finds a Python, sets up what the site needs, becomes the agent (hides how sites differ)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from icp.errors import BadInput

__all__ = ["PYTHONS", "Body", "pilot_body"]

PYTHONS: tuple[str, ...] = (
    "python3", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python",
    *(f"{name}3.{minor}" for minor in range(14, 5, -1) for name in ("python", "/usr/bin/python")),
    "/opt/rh/rh-python38/root/usr/bin/python3", "/opt/rh/rh-python36/root/usr/bin/python3",
    "/opt/conda/bin/python3", "$HOME/miniconda3/bin/python3", "$HOME/.local/bin/python3", "python",
)  # fmt: skip
"""Where a Python 3.6 or newer usually is, best first; shell words that are expanded at the site."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Body:
    """What a pilot needs to know of its site."""

    spool: str
    """The ledger's spool, absolute, as workers see it."""
    program: str
    """The pilot's zipapp, absolute, as workers see it."""
    pilot: str
    """16 hex digits."""
    python: str | None = None
    """Tried first: a path, or a name in PATH."""
    modules: Sequence[str] = ()
    """For ``module load``, before Python is looked for."""
    setup: Sequence[str] = ()
    """Lines of the person's, in sh; they may do anything. A failing last line is told, and the pilot goes on."""
    env: Mapping[str, str] = field(default_factory=dict)
    scratch: str | None = None
    """Where $TMPDIR is not what it should be: a directory on the node's own disk; variables of the site's are expanded (``/scratch/$USER``)."""
    command: Sequence[str] = ("run",)
    """What the program is told to be."""
    pythons: Sequence[tuple[str, str]] = ()
    """(what ``uname -m`` says, sha256) of Pythons in the spool's cache, for nodes that have none."""
    bagged: bool = False
    """Spool and program travelled with the job, and lie where it begins; ``back`` is brought back from there."""


def pilot_body(body: Body, words: Sequence[str] | None = None) -> str:
    """The text of ``pilot.sh``; the same for the same Body. Exit 127: no Python was found, which stderr says.

    ``words``: what the program does instead of being an agent.

    It ends by ``exec``: signals of the batch system reach the supervisor, and no shell lies in between. The node's index comes from
    what starts one copy per node (srun, mpiexec), 0 where nothing did.
    """
    mistakes = [f"site.env: {name!r} is no name of a variable" for name in body.env if not _VARIABLE.match(name)]
    mistakes += [f"site.modules: {name!r} is no name of a module" for name in body.modules if not re.match(r"[A-Za-z0-9][\w.+/:-]*\Z", name)]
    if body.scratch is not None and not re.match(r"[/$][\w./${}+@:-]*\Z", body.scratch):
        mistakes.append(f"site.scratch: {body.scratch!r} is no absolute path without blanks")
    if mistakes:
        raise BadInput(mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} values cannot stand in a pilot's script", None, tuple(mistakes))
    lines = ["#!/bin/sh", f"# pilot {body.pilot}"]
    # walltime counts from here at the latest: what follows may take its time
    lines.append("ICP_BEGAN=$(date +%s 2>/dev/null); export ICP_BEGAN")
    if body.bagged:
        lines += [
            "# what an evicted job had done is there when it begins again: that is all that is brought back",
            'if [ -e back ]; then echo "pilot: this job was begun before" >&2; exit 0; fi',
            ": > back",
        ]
    lines += [
        "# HTCondor gives neither PATH nor HOME, and a scratch directory by a name of its own",
        "PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}; export PATH",
        'if [ -z "${HOME:-}" ]; then HOME=$(getent passwd "$(id -u)" | cut -d: -f6); export HOME; fi',
        'if [ -n "${_CONDOR_SCRATCH_DIR:-}" ]; then TMPDIR=$_CONDOR_SCRATCH_DIR; export TMPDIR; fi',
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(body.env.items())]
    if body.modules:
        # batch shells often have no `module` yet: it is a function of the login shell
        lines += [
            "if ! command -v module >/dev/null 2>&1; then",
            '  for f in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh "${LMOD_PKG:-/usr/share/lmod/lmod}/init/sh" '
            '"${MODULESHOME:-/usr/share/modules}/init/sh"; do',
            '    if [ -r "$f" ]; then . "$f"; break; fi',
            "  done",
            "fi",
            *(f"module load {name} || echo \"pilot: module load {name} failed\" >&2" for name in body.modules),
        ]
    if body.setup:
        lines += ["# setup of the site, as configured", *body.setup]
        lines.append('[ "$?" = 0 ] || echo "pilot: the last line of the site\'s setup failed" >&2')
    if body.scratch is not None:
        lines += [
            f'scratch="{body.scratch}"',
            'if mkdir -p "$scratch" 2>/dev/null && [ -w "$scratch" ]; then TMPDIR=$scratch; export TMPDIR',
            'else echo "pilot: scratch $scratch cannot be written on $(hostname), using ${TMPDIR:-/tmp}" >&2; fi',
        ]
    first = [] if body.python is None else [shlex.quote(body.python)]
    candidates = " ".join(first + [f'"{one}"' if "$" in one else one for one in PYTHONS])
    lines += [
        "python=",
        f"for p in {candidates}; do",
        "  # the version is asked for: stubs of that name exist that run and do nothing",
        "  if [ \"$(\"$p\" -I -S -c 'import sys; print(sys.version_info >= (3, 6))' 2>/dev/null)\" = True ]; then python=$p; break; fi",
        "done",
    ]
    if body.pythons:
        lines += _shipped_python(body)
    lines += [
        'if [ -z "$python" ]; then',
        '  echo "pilot: no Python 3.6 or newer on $(hostname): set site.NAME.python or site.NAME.modules" >&2; exit 127',
        "fi",
        "# in a batch script that nothing spread over nodes Slurm and PBS say 0 too; ICP_NODE is of the loop that starts pilots by Grid Engine and LSF",
        "node=${ICP_NODE:-${SLURM_PROCID:-${PMIX_RANK:-${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-${PBS_NODENUM:-0}}}}}}",
        "# ksh would quote a path that it is asked for",
        'case $python in */*) p=$python ;; *) p=$(command -v "$python") ;; esac',
        'echo "pilot: node $node on $(hostname), python $p"',
    ]
    agent = f'{shlex.join(body.command)} --spool {shlex.quote(body.spool)} --pilot {shlex.quote(body.pilot)} --node-index "$node"'
    lines.append(f'exec "$python" -I -S {shlex.quote(body.program)} {agent if words is None else shlex.join(words)}')
    return "\n".join(lines) + "\n"


def _shipped_python(body: Body) -> list[str]:
    """Unpacks once, beside its archive, what was shipped for this kind of machine; whoever comes later finds it whole or not at all."""
    cases = " ".join(f"{shlex.quote(machine)}) sum={sha256} ;;" for machine, sha256 in body.pythons)
    return [
        "# none of its own: one was shipped",
        'if [ -z "$python" ]; then',
        f"  sum=; case $(uname -m) in {cases} esac",
        '  if [ -z "$sum" ]; then echo "pilot: no Python was shipped for $(uname -m)" >&2; else',
        f"  archive={shlex.quote(body.spool)}/cache/$sum; home={shlex.quote(body.spool)}/cache/python-$sum",
        '  if [ ! -d "$home" ]; then',
        '    part=$home.$(hostname).$$; got=$(sha256sum "$archive" 2>/dev/null | cut -d" " -f1)',
        '    if [ "$got" != "$sum" ]; then echo "pilot: the Python in $archive has sha256 ${got:-unknown}, expected $sum" >&2',
        '    elif mkdir "$part" && { tar -xf "$archive" -C "$part" || tar -xzf "$archive" -C "$part"; }; then',
        '      mv -T "$part" "$home" 2>/dev/null || [ -d "$home" ] || mv "$part" "$home"',
        '    else echo "pilot: the Python in $archive cannot be unpacked" >&2; fi',
        '    rm -rf "$part"',
        "  fi",
        '  for p in "$home"/bin/python3 "$home"/*/bin/python3; do',
        "    if [ \"$(\"$p\" -I -S -c 'import sys; print(sys.version_info >= (3, 6))' 2>/dev/null)\" = True ]; then python=$p; break; fi",
        "  done",
        "  fi",
        "fi",
    ]
