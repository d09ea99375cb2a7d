"""The start of icp.pyz: unpacks what it holds into the cache, once for each content, and runs it (parsed by any Python since 2)."""

import sys

if sys.version_info < (3, 10):
    running = (sys.version_info[0], sys.version_info[1], sys.executable)
    sys.exit("icp needs Python 3.10 or newer, and this is Python %d.%d (%s): start it with a newer one." % running)

import os
import shutil
import tempfile
import zipfile

CONTENT = "0000000000000000"  # the build writes the hash of what is packed here
LIBRARY = "lib/"


def cache():
    # type: () -> str
    """A directory of ours alone, for this content; below the user's cache, else one that goes when we do."""
    home = os.environ.get("ICP_HOME")
    if home:
        base = os.path.join(os.path.abspath(os.path.expanduser(home)), "cache")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            base = os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(base, "icp")
    try:
        os.makedirs(base, 0o700, exist_ok=True)
        if os.stat(base).st_uid == os.geteuid() and os.access(base, os.W_OK):
            return os.path.join(base, "program-" + CONTENT)
    except OSError:
        pass
    import atexit

    base = tempfile.mkdtemp(prefix="icp-")
    atexit.register(shutil.rmtree, base, True)
    return os.path.join(base, "program-" + CONTENT)


def unpacked(archive):
    # type: (str) -> str
    """The directory with the program; whole or not there, whoever else unpacks it at the same time."""
    place = cache()
    if not os.path.isdir(place):
        fresh = tempfile.mkdtemp(prefix=".unpacking-", dir=os.path.dirname(place))
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(fresh, [one for one in packed.namelist() if one.startswith(LIBRARY)])
            os.rename(os.path.join(fresh, LIBRARY), place)
        except OSError:
            if not os.path.isdir(place):
                raise
        finally:
            shutil.rmtree(fresh, True)
    return place


sys.path[0] = unpacked(os.path.dirname(os.path.abspath(__file__)))

from icp.cli import main

sys.exit(main())
