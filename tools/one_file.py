"""Makes dist/icp.pyz from the wheel in dist/: the program and the pure-Python packages it needs, in one file; then tries it."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"parsl"}  # compiled parts, for one platform and one Python each; only clusters need it
ALSO = ["tomli", "exceptiongroup", "typing_extensions"]  # what Python 3.10 needs, whichever Python packs
EPOCH = (1980, 1, 1, 0, 0, 0)


def requirements() -> list[str]:
    """What the project asks for, without what cannot be packed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [one for one in wanted if re.match(r"[A-Za-z0-9_-]+", one)[0] not in LEFT_OUT] + ALSO  # type: ignore[index]


def install(wheel: Path, target: Path) -> None:
    """The wheel and its requirements, pure Python only, for any CPython since 3.10."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", str(target)]
    pure = ["--only-binary=:all:", "--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", "3.10"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    subprocess.run([*pip, *pure, "--upgrade", *requirements()], check=True)


def pack(library: Path, file: Path) -> None:
    """The same bytes from the same content."""
    members = [one for one in sorted(library.rglob("*")) if one.is_file() and "__pycache__" not in one.parts and one.parent.name != "bin"]
    compiled = [one.name for one in members if one.suffix in (".so", ".pyd")]
    if compiled:
        sys.exit(f"not pure Python: {', '.join(compiled)}")
    names = [str(one.relative_to(library)) for one in members]
    digest = hashlib.sha256()
    for name, member in zip(names, members, strict=True):
        digest.update(b"%s\0%d\0" % (name.encode(), member.stat().st_size) + member.read_bytes())
    start = (ROOT / "tools" / "one_file_main.py").read_text()
    assert start.count('CONTENT = "0000000000000000"') == 1
    start = start.replace("0000000000000000", digest.hexdigest()[:16])
    with file.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(zipfile.ZipInfo("__main__.py", EPOCH), start)
            for name, member in zip(names, members, strict=True):
                packed.writestr(zipfile.ZipInfo(f"lib/{name}", EPOCH), member.read_bytes(), zipfile.ZIP_DEFLATED)
    file.chmod(0o755)


def attempt(file: Path) -> None:
    """Run it as on a machine that has never seen the project: an isolated Python, an empty home, twice."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TMPDIR": home}
        for words in (["--version"], ["--help"], ["new"], ["demo", "--jobs", "2", "--dir", "demo"]):
            done = subprocess.run([sys.executable, "-I", str(file), *words], env=environment, cwd=home, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{file.name} {' '.join(words)} does not work:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    dist = Path(sys.argv[1]).resolve()
    (built,) = dist.glob("icp_pool-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        install(built, Path(folder, "lib"))
        pack(Path(folder, "lib"), dist / "icp.pyz")
    attempt(dist / "icp.pyz")
