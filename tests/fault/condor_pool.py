"""Stands for condor_q, condor_hold, condor_rm and condor_release over a queue that is a JSON file: $FAKE_POOL; nothing in it ever runs."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from pathlib import Path

STATUS = {"condor_hold": 5, "condor_rm": 3, "condor_release": 1}


ATTRIBUTES = ("ClusterId", "ProcId", "JobStatus", "HoldReason", "IcpOverflow", "Owner")


def matches(text: str, ad: dict[str, object]) -> bool:
    text = re.sub(r'regexp\("([^"]*)", HoldReason\)', r're.search(r"\1", str(HoldReason)) is not None', text)
    text = text.replace("&&", " and ").replace("||", " or ").replace("=?= True", "is True")
    return bool(eval(text, {"re": re}, {name: ad.get(name) for name in ATTRIBUTES}))


def main() -> int:
    command, words = Path(sys.argv[0]).name, sys.argv[1:]
    path = Path(os.environ["FAKE_POOL"])
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ads = json.load(file)
        constraint = words[words.index("-constraint") + 1]
        chosen = [ad for ad in ads if matches(constraint, ad)]
        if command == "condor_q":
            if "-json" in words:
                sys.stdout.write(json.dumps(chosen) if chosen else "")
            else:
                for ad in chosen:
                    sys.stdout.write(f"{ad['ClusterId']}.{ad['ProcId']} {ad['ClusterId']}\n")
            return 0
        for ad in chosen:
            ad["JobStatus"] = STATUS[command]
            ad["HoldReason"] = words[words.index("-reason") + 1] + " (by user me)" if command == "condor_hold" else None
        ads = [ad for ad in ads if ad["JobStatus"] != 3]
        with path.open("r+") as out:
            out.truncate()
            out.write(json.dumps(ads))
    return 0 if chosen else 1


if __name__ == "__main__":
    sys.exit(main())
