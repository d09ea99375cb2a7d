"""Writes docs/README.md, the table of the pages here, from their titles and first sentences: python docs/generate_index.py"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Documents

Written from the pages' titles and first sentences by `make docs`; `make site` makes a web site of them. The [README](../README.md) says what icp is,
[ARCHITECTURE](../ARCHITECTURE.md) has the rooms of the program, [CONTRIBUTING](../CONTRIBUTING.md) how to work on it, and the
[CHANGELOG](../CHANGELOG.md) what changed.
"""
GROUPS = {
    "Begin": ("first-hour", "by-example", "how-it-works", "neighbours"),
    "Work": ("steering", "modules", "software", "transfers", "looking", "provenance", "unmonitored"),
    "Sites": ("sites", "site-configurations", "batch-systems", "unattended", "troubleshooting"),
    "Coming from elsewhere": ("foreign", "overflow", "iceprod"),
    "Reference": ("commands", "configuration", "states", "json", "ledger", "spool", "plugins", "benchmarks"),
}
"""Heading -> names of pages, in reading order. A page that is not there yet is passed over; one that is named nowhere stands at the end."""


def grouped(folder: Path) -> dict[str, list[Path]]:
    """The pages of docs/ as they are to be shown, decisions apart."""
    pages = {one.stem: one for one in sorted(folder.glob("*.md")) if one.name != "README.md"}
    groups = {heading: [pages.pop(name) for name in names if name in pages] for heading, names in GROUPS.items()}
    return {**groups, **({"More": list(pages.values())} if pages else {})}


def title(page: Path) -> tuple[str, str]:
    """A page's title, and the first sentence below it."""
    head, _, rest = page.read_text(encoding="utf-8").partition("\n")
    told = [one.strip("\n") for one in rest.split("\n\n") if one.strip()]
    paragraphs = [" ".join(one.split()) for one in told if not one.startswith(("#", "|", "```", "<!--", "-", "    "))]
    first = re.match(r".*?\w[`)\"]?[.:](?= |$)|.*", paragraphs[0] if paragraphs else "")
    return head.lstrip("# ").strip(), (first[0] if first else "").rstrip(".:").replace("|", "\\|")


def table(pages: list[Path], link: str = "") -> str:
    """One row for each page."""
    rows = [(title(page), page.name) for page in pages]
    return "| page | what it says |\n| --- | --- |\n" + "".join(f"| [{head}]({link}{name}) | {first} |\n" for (head, first), name in rows)


if __name__ == "__main__":
    parts = [HEAD, *(f"## {heading}\n\n{table(pages)}" for heading, pages in grouped(HERE).items())]
    parts.append("## Decisions\n\nHalf a page each: what was decided, why, what it costs.\n\n" + table(sorted((HERE / "decisions").glob("*.md")), "decisions/"))
    (HERE / "README.md").write_text("\n".join(parts), encoding="utf-8")
