"""Writes docs/README.md, the table of the pages here, from their titles and first sentences: python docs/generate_index.py"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Documents

Written from the pages' titles and first sentences by `make docs`. The [README](../README.md) has the first hour, [ARCHITECTURE](../ARCHITECTURE.md) the
rooms of the program, [CONTRIBUTING](../CONTRIBUTING.md) how to work on it.
"""


def title(page: Path) -> tuple[str, str]:
    """A page's title, and the first sentence below it."""
    head, _, rest = page.read_text(encoding="utf-8").partition("\n")
    paragraphs = [" ".join(one.split()) for one in rest.split("\n\n") if one.strip() and not one.strip().startswith(("#", "|", "```", "<!--", "-"))]
    first = re.match(r".*?\w[`)\"]?[.:](?= |$)|.*", paragraphs[0] if paragraphs else "")
    return head.lstrip("# ").strip(), (first[0] if first else "").rstrip(".:").replace("|", "\\|")


def table(folder: Path, link: str) -> str:
    """One row for each page."""
    pages = sorted(one for one in folder.glob("*.md") if one.name != "README.md")
    rows = [(title(page), page.name) for page in pages]
    return "| page | what it says |\n| --- | --- |\n" + "".join(f"| [{head}]({link}{name}) | {first} |\n" for (head, first), name in rows)


if __name__ == "__main__":
    text = f"{HEAD}\n{table(HERE, '')}\n## Decisions\n\nHalf a page each: what was decided, why, what it costs.\n\n{table(HERE / 'decisions', 'decisions/')}"
    (HERE / "README.md").write_text(text, encoding="utf-8")
