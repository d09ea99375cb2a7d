"""``python -m icp``: one sentence on a Python that is too old (so nothing in this file may be newer than Python 2)."""

import sys

if sys.version_info < (3, 10):
    running = (sys.version_info[0], sys.version_info[1], sys.executable)
    sys.exit("icp needs Python 3.10 or newer, and this is Python %d.%d (%s): start it with a newer one." % running)

from icp.cli import main

sys.exit(main())
