"""Writes the table of rooms into ARCHITECTURE.md, from the first sentence of every module; with --check says whether it is current."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: written by `make docs` -->\n", "<!-- end of rooms -->\n"


def modules() -> list[Path]:
    """Every module of icp that holds something, the top ones first."""
    found = [one for one in (ROOT / "icp").rglob("*.py") if one.stat().st_size]
    return sorted((one.relative_to(ROOT) for one in found), key=lambda one: (one.parent, one.name))


def room(path: Path) -> tuple[str, str]:
    """What the module is, and what it hides, from its docstring's first paragraph."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")
    match = re.match(r"(.*?)\s*\((?:hides )((?:[^()]|\([^()]*\))*)\)", first)
    if match:
        return match[1].rstrip("."), match[2]
    return re.split(r"(?<=\w)\.(?: |$)", first)[0], ""


def table() -> str:
    """One table for each folder."""
    parts = []
    folder = None
    for path in modules():
        if path.parent != folder:
            folder = path.parent
            parts += ["", f"**{folder}/**", "", "| room | what it is | what it hides |", "| --- | --- | --- |"]
        what, hides = room(path)
        parts.append(f"| `{path.name}` | {what} | {hides} |")
    return "\n".join(parts[1:]) + "\n"


def page() -> str:
    """The whole page with the table as it should be."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + table() + "\n" + END + tail


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("the rooms in ARCHITECTURE.md are not current; run `make docs`")
