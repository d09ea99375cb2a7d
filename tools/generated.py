"""Writes the generated pages of docs/ anew, or with --check says which of them are not what they should be."""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(docs: Path) -> None:
    """Run each docs/generate_*.py; it writes its page beside itself."""
    for generator in sorted(docs.glob("generate_*.py")):
        subprocess.run([sys.executable, str(generator)], check=True, cwd=ROOT)


def stale() -> list[str]:
    """Names of pages that would change."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder, "docs")
        shutil.copytree(ROOT / "docs", fresh)
        generate(fresh)
        names = [str(page.relative_to(fresh)) for page in sorted(fresh.rglob("*")) if page.is_file()]
        _, changed, missing = filecmp.cmpfiles(fresh, ROOT / "docs", names, shallow=False)
        return changed + missing


if __name__ == "__main__":
    rooms = subprocess.run([sys.executable, str(ROOT / "tools" / "rooms.py"), *sys.argv[1:]], check=False).returncode
    if sys.argv[1:] == ["--check"]:
        old = stale()
        if old:
            sys.exit(f"docs/ is not current: {', '.join(old)}; run `make docs`")
    else:
        generate(ROOT / "docs")
    sys.exit(rooms)
