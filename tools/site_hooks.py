"""The site of the documents for mkdocs: its navigation, the pages that lie outside docs/, and links to what no site has."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "about.md"}
"""Pages beside docs/ -> where they are in the site."""
PARTS = re.compile(
    r"^```mermaid\n(?P<diagram>.*?)^```$|^ *```.*?^ *```$|`[^`\n]*`|\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
"""Diagrams and links, and the code in which neither is meant."""


def on_config(config: Any) -> Any:
    """The navigation has the groups of docs/README.md."""
    spec = importlib.util.spec_from_file_location("generate_index", ROOT / "docs" / "generate_index.py")
    assert spec is not None and spec.loader is not None
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    groups = index.grouped(ROOT / "docs")
    decisions = sorted(f"decisions/{one.name}" for one in (ROOT / "docs" / "decisions").glob("*.md"))
    nav: list[Any] = [{"icp": ["README.md", {"About": OUTSIDE["README.md"]}]}]
    nav += [{heading: [page.name for page in pages]} for heading, pages in groups.items()]
    nav += [{"The program": [name for name in OUTSIDE.values() if name != OUTSIDE["README.md"]]}, {"Decisions": decisions}]
    config.nav = nav
    return config


def on_files(files: Files, config: Any) -> Files:
    """README, ARCHITECTURE and the like become pages."""
    for name, inside in OUTSIDE.items():
        files.append(File.generated(config, inside, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links lead to pages of the site; where it has none, their text stays. Diagrams stay folded: drawing them would take a script from elsewhere."""
    inside = page.file.src_uri
    here = PurePosixPath(next((name for name, at in OUTSIDE.items() if at == inside), f"docs/{inside}")).parent

    def part(found: re.Match[str]) -> str:
        if found["diagram"]:
            lines = "".join(f"    {line}\n" for line in found["diagram"].splitlines())
            return f'??? note "As a Mermaid diagram"\n\n    ```text\n{lines}    ```'
        if not found["target"] or "://" in found["target"]:
            return found[0]
        path = os.path.normpath(here / found["target"])
        if path not in OUTSIDE and not path.startswith("docs/"):
            return found["text"]
        there = OUTSIDE.get(path, path.removeprefix("docs/"))
        return f"[{found['text']}]({os.path.relpath(there, PurePosixPath(inside).parent)}{found['anchor'] or ''})"

    return PARTS.sub(part, markdown)
