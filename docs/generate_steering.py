"""Writes docs/steering.md from the schema: python docs/generate_steering.py"""

from pathlib import Path

from icp.dsl.reference import reference

if __name__ == "__main__":
    Path(__file__).with_name("steering.md").write_text(reference(), encoding="utf-8")
