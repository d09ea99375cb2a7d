"""Sizes and durations as people write them, in bytes and seconds (hides the units)."""

from __future__ import annotations

import math
import re

__all__ = ["DURATION", "SIZE", "duration", "show_duration", "show_size", "size"]

SIZE = 'a size such as "2 GB" or "2 GiB", or a number of MB'
DURATION = 'a duration such as "8 h", "30 min", "1:30:00" or "2 d", or a number of seconds'

_SIZES = {
    "": 10**6, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50,
}  # fmt: skip
_TIMES = {
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z", re.ASCII)
_CLOCK = re.compile(r"\s*(?:(\d{1,4})[-:])?(\d{1,5}):(\d\d):(\d\d)\s*\Z|\s*(\d{1,5}):(\d\d)\s*\Z", re.ASCII)
_LARGEST = 10**18


def size(value: float | str) -> int:
    """Bytes; a bare number is MB, as batch systems have it. ValueError for what is none, or not above 0."""
    return _bounded(_with_unit(value, _SIZES, SIZE), SIZE)


def duration(value: float | str) -> int:
    """Seconds. ValueError for what is none, or not above 0; ``1:30`` could mean two things, so it is none."""
    if isinstance(value, str) and (match := _CLOCK.match(value)):
        days, hours, minutes, seconds = match.groups()[:4]
        if hours is None:
            raise ValueError('hours, minutes and seconds, such as "1:30:00"')
        if int(minutes) > 59 or int(seconds) > 59:
            raise ValueError(DURATION)
        return _bounded(int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + int(seconds), DURATION)
    return _bounded(_with_unit(value, _TIMES, DURATION), DURATION)


def _with_unit(value: float | str, units: dict[str, int], expected: str) -> float:
    if isinstance(value, bool):
        raise ValueError(expected)  # noqa: TRY004 - what a person wrote is wrong, not the program
    if isinstance(value, int | float):
        return value * units[""]
    match = _QUANTITY.match(value)
    if match is None or len(value) > 40 or match.group(2).lower() not in units:
        raise ValueError(expected)
    number = match.group(1).replace("_", "")
    return (float(number) if "." in number else int(number)) * units[match.group(2).lower()]


def _bounded(value: float, expected: str) -> int:
    if not math.isfinite(value) or not 0 < value <= _LARGEST:
        raise ValueError(expected + ", above 0")
    return math.ceil(value)


def show_size(value: int) -> str:
    """Bytes for people: ``2 GB``, ``1.5 GiB``, ``137 B``."""
    for unit in ("PB", "PiB", "TB", "TiB", "GB", "GiB", "MB", "MiB", "kB", "KiB"):
        factor = _SIZES[unit.lower()]
        if value >= factor and value * 10 % factor == 0:
            return f"{value / factor:g} {unit}"
    for unit in ("PB", "TB", "GB", "MB", "kB"):
        if value >= _SIZES[unit.lower()]:
            return f"{value / _SIZES[unit.lower()]:.3g} {unit}"
    return f"{value} B"


def show_duration(seconds: int) -> str:
    """Seconds for people: ``2 d``, ``8 h``, ``30 min``, ``90 s`` or ``1:30:05``."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds // factor} {unit}"
    if seconds < 300:
        return f"{seconds} s"
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
