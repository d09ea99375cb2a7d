"""``python -m icp``; says one sentence on a Python that is too old (so nothing here may be newer than Python 2)."""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write("icp needs Python 3.10 or newer; this is %d.%d (%s)\n" % (sys.version_info[0], sys.version_info[1], sys.executable))
    sys.exit(2)

from icp.cli import main

main()
