"""Writes docs/states.md from the tables in icp.states: python docs/generate_states.py"""

from pathlib import Path

from icp.states import MACHINES, Machine

HEAD = """# States

Generated from `icp/states.py` by `docs/generate_states.py`. An event that is not in a table for a state is refused and counted;
events that leave a state as it is are in the tables, not in the diagrams.
"""


def table(machine: Machine) -> str:
    """The events of a machine, one a line, with the states that each moves."""
    lines = ["| event | from → to |", "| --- | --- |"]
    for event, row in machine.moves.items():
        ends: dict[str, list[str]] = {}
        for before, after in row.items():
            ends.setdefault("=" if before == after else after.name.lower(), []).append(before.name.lower())
        said = "; ".join(f"{', '.join(befores)} {'=' if after == '=' else '→ ' + after}" for after, befores in ends.items())
        who = " (a person)" if event in machine.user else ""
        lines.append(f"| {event}{who} | {said} |")
    return "\n".join(lines)


def page() -> str:
    parts = [HEAD]
    for machine in MACHINES:
        parts.append(f"## {machine.name}\n\n```mermaid\n{machine.diagram()}\n```\n\n{table(machine)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("states.md").write_text(page(), encoding="utf-8")
