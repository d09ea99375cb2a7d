"""Writes the screens in the pages here anew, by running their commands: python docs/generate_screens.py"""

import importlib.util
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent


def _screens() -> ModuleType:
    """tools/screens.py, from the working directory: a copy of docs/ is checked too."""
    spec = importlib.util.spec_from_file_location("screens", Path("tools", "screens.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    screens = _screens()
    for page in screens.pages(HERE):
        page.write_text(screens.rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
