#!/bin/sh
# pilot 0123456789abcdef
ICP_BEGAN=$(date +%s 2>/dev/null); export ICP_BEGAN
# HTCondor gives neither PATH nor HOME, and a scratch directory by a name of its own
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}; export PATH
if [ -z "${HOME:-}" ]; then HOME=$(getent passwd "$(id -u)" | cut -d: -f6); export HOME; fi
if [ -n "${_CONDOR_SCRATCH_DIR:-}" ]; then TMPDIR=$_CONDOR_SCRATCH_DIR; export TMPDIR; fi
export A='it'"'"'s $HOME'
export B=''
if ! command -v module >/dev/null 2>&1; then
  for f in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh "${LMOD_PKG:-/usr/share/lmod/lmod}/init/sh" "${MODULESHOME:-/usr/share/modules}/init/sh"; do
    if [ -r "$f" ]; then . "$f"; break; fi
  done
fi
module load python/3.11 || echo "pilot: module load python/3.11 failed" >&2
module load cuda || echo "pilot: module load cuda failed" >&2
# setup of the site, as configured
ulimit -c 0
export DATA='/data/my files'
[ "$?" = 0 ] || echo "pilot: the last line of the site's setup failed" >&2
scratch="/scratch/$USER"
if mkdir -p "$scratch" 2>/dev/null && [ -w "$scratch" ]; then TMPDIR=$scratch; export TMPDIR
else echo "pilot: scratch $scratch cannot be written on $(hostname), using ${TMPDIR:-/tmp}" >&2; fi
python=
for p in /opt/py/bin/python3.11 python3 /usr/bin/python3 /usr/local/bin/python3 /usr/libexec/platform-python python3.14 /usr/bin/python3.14 python3.13 /usr/bin/python3.13 python3.12 /usr/bin/python3.12 python3.11 /usr/bin/python3.11 python3.10 /usr/bin/python3.10 python3.9 /usr/bin/python3.9 python3.8 /usr/bin/python3.8 python3.7 /usr/bin/python3.7 python3.6 /usr/bin/python3.6 /opt/rh/rh-python38/root/usr/bin/python3 /opt/rh/rh-python36/root/usr/bin/python3 /opt/conda/bin/python3 "$HOME/miniconda3/bin/python3" "$HOME/.local/bin/python3" python; do
  # the version is asked for: stubs of that name exist that run and do nothing
  if [ "$("$p" -I -S -c 'import sys; print(sys.version_info >= (3, 6))' 2>/dev/null)" = True ]; then python=$p; break; fi
done
if [ -z "$python" ]; then
  echo "pilot: no Python 3.6 or newer on $(hostname): set site.NAME.python or site.NAME.modules" >&2; exit 127
fi
# in a batch script that nothing spread over nodes Slurm and PBS say 0 too; ICP_NODE is of the loop that starts pilots by Grid Engine and LSF
node=${ICP_NODE:-${SLURM_PROCID:-${PMIX_RANK:-${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-${PBS_NODENUM:-0}}}}}}
# ksh would quote a path that it is asked for
case $python in */*) p=$python ;; *) p=$(command -v "$python") ;; esac
echo "pilot: node $node on $(hostname), python $p"
exec "$python" -I -S /data/icp/programs/pilot-0123456789abcdef.pyz run --spool /data/icp/spool/0a1b2c3d --pilot 0123456789abcdef --node-index "$node"
