#!/usr/bin/env python3
"""Makes the tarball that the tasks of this example run in: chromo, numpy and what they need, from PyPI, for one Python.

  python3 environment.py                     chromo.tar.gz, for the Python that runs this
  python3 environment.py --python 3.9        for the python3 of other sites (3.9 to 3.12)
  python3 environment.py --write             and its sha256 into steering.toml

The same wheels give the same bytes: names are sorted, and times, owners and what pip writes down are left out.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("_sib21", "_sib23d")
"""The generators that are kept, of some thirty. Others may fetch tables when they start, which a worker shall not."""


def install(python, target):
    words = ["--target", str(target), "--python-version", python, "--only-binary", ":all:", "--no-deps", "--no-compile"]
    requirements = ["--requirement", str(HERE / "requirements.txt")]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words, *requirements]
    done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith("ERROR")] or done.stdout.splitlines()
        raise SystemExit("environment.py: pip cannot install %s: %s" % (HERE / "requirements.txt", said[-1] if said else "it says nothing"))


def prune(target):
    """Takes away what nobody here imports, and what differs from one installation to the next."""
    shutil.rmtree(str(target / "bin"), ignore_errors=True)
    for folder in sorted(target.rglob("tests"), reverse=True):
        shutil.rmtree(str(folder))
    for path in sorted(target.glob("*.dist-info/*")):
        if path.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            path.unlink()
    for path in sorted((target / "chromo" / "models").glob("*.so")):
        if path.name.split(".")[0] not in MODELS:
            path.unlink()


def platform(target):
    """What the node must have, as the wheels say: the newest of the oldest C libraries that they run with."""
    needed, machine = (0, 0), None
    for path in target.glob("*.dist-info/WHEEL"):
        found = re.findall(r"^Tag: .*-manylinux_(\d+)_(\d+)_(\w+)$", path.read_text(), re.M)
        found += [("2", "17", one) for one in re.findall(r"^Tag: .*-manylinux2014_(\w+)$", path.read_text(), re.M)]
        if found:
            needed = max(needed, min((int(major), int(minor)) for major, minor, _ in found))
            machine = found[0][2]
    return "linux-%s-glibc%d.%d" % (machine, *needed) if machine else "any"


def pack(target, setup, out):
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(name, data, mode=0o644):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))

        add("setup.sh", setup.encode())
        for path in sorted(target.rglob("*")):
            if path.is_file():
                add("lib/" + str(path.relative_to(target)), path.read_bytes(), 0o755 if ".so" in path.suffixes else 0o644)


def write(steering, about):
    """Puts platform, url and sha256 where the steering file has them."""
    text = steering.read_text()
    for key, value in about.items():
        text, count = re.subn(r'^(%s\s*= )".*"' % key, lambda match, value=value: '%s"%s"' % (match.group(1), value), text, flags=re.M)
        if count != 1:
            raise SystemExit("environment.py: %s has %d lines '%s = \"...\"', expected one" % (steering, count, key))
    steering.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="%d.%d" % sys.version_info[:2], metavar="X.Y", help="of the nodes (default: this one, %(default)s)")
    parser.add_argument("--out", default="chromo.tar.gz", metavar="FILE", help="default: %(default)s, beside this file")
    parser.add_argument("--write", nargs="?", const=str(HERE / "steering.toml"), metavar="FILE", help="put it into this steering file")
    given = parser.parse_args()
    out = HERE / given.out
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "lib"
        install(given.python, target)
        prune(target)
        about = {"platform": platform(target), "url": given.out}
        with open(str(out), "wb") as stream:
            pack(target, (HERE / "setup.sh").read_text().replace("@PYTHON@", given.python), stream)
    digest = hashlib.sha256()
    with open(str(out), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    about["sha256"] = digest.hexdigest()
    if given.write:
        write(pathlib.Path(given.write), about)
    print("\n".join(["[[software.chromo.tarball]]", *('%s = "%s"' % pair for pair in about.items())]))


if __name__ == "__main__":
    main()
