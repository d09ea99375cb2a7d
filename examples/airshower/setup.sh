# Sourced on the node before each command. The libraries are compiled for one Python, which the node must have.
icp_python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
if [ "$icp_python" != "@PYTHON@" ]; then
  echo "these libraries are for Python @PYTHON@, and python3 here is ${icp_python:-not there}" >&2
  return 1
fi
export PYTHONPATH="$ICP_SOFTWARE/lib${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
