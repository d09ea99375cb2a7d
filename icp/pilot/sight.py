"""What is seen through a way to software: whether its repositories are there, and what of the node a task must have (hides how one looks)."""

import glob
import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["looking", "seen"]

# Run through the way by the pilot's own Python: what of the repositories and of the node is seen there.
_LOOK = """
import glob, json, os, sys
told = {"revision": {}, "empty": [], "nvidia": sorted(glob.glob("/dev/nvidia[0-9]*")), "cuda": os.environ.get("CUDA_VISIBLE_DEVICES")}
for name in sys.argv[1:]:
    path = "/cvmfs/" + name
    try:
        if not os.listdir(path + "/"):
            told["empty"].append(name + " is empty")
    except OSError as error:
        told["empty"].append("%s: %s" % (name, error.strerror))
    try:
        told["revision"][name] = os.getxattr(path, "user.revision").decode()
    except (OSError, AttributeError):
        try:
            with open(path + "/.cvmfspublished", "rb") as stream:
                told["revision"][name] = [line[1:].decode() for line in stream.read().split(b"\\n--")[0].split(b"\\n") if line[:1] == b"S"][0]
        except (OSError, IndexError, ValueError):
            pass
print(json.dumps(told))
"""


def looking(repositories: "list[str]") -> "list[str]":
    """The command that looks, to be run with ``CUDA_VISIBLE_DEVICES=icp``."""
    return [sys.executable, "-I", "-S", "-c", _LOOK, *repositories]


def seen(out: str) -> "tuple[dict[str, Any], str]":
    """(what it told, "") or ({}, what is not seen)."""
    try:
        told = json.loads(out.strip().rpartition("\n")[2])
    except ValueError:
        return {}, "nothing could be seen through it"
    if told["empty"]:
        return {}, "; ".join(told["empty"])
    hidden = [one for one in glob.glob("/dev/nvidia[0-9]*") if one not in told["nvidia"]]
    if hidden or told["cuda"] != "icp":
        return {}, f"{hidden[0] if hidden else 'CUDA_VISIBLE_DEVICES'} does not reach the task through it"
    return told, ""
