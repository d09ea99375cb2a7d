"""The plot, drawn by hand as SVG: depth of the maximum against the number of muons, one colour for each kind of primary."""

import math

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 520, 80, 70, 730, 450
COLOURS = {"proton": "#d1495b", "helium": "#e9a03b", "nitrogen": "#4f9d69", "iron": "#2a7f9e"}
INK, FAINT, GRID = "#22303c", "#66757f", "#e3e8ec"


def _text(x, y, words, size=14, anchor="middle", colour=INK, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{more}>{words}</text>'


def _line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _mark(model, x, y, colour):
    if model == "sibyll23d":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.7"/>'
    return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def draw(groups):
    """The whole SVG as text; ``groups``: (muons, depth) of the events by (model, kind)."""
    points = [point for group in groups.values() for point in group]
    low = math.floor(min([math.log10(max(muons, 1.0)) for muons, _ in points] or [0.0]) * 10) / 10
    high = math.ceil(max([math.log10(max(muons, 1.0)) for muons, _ in points] or [1.0]) * 10 + 0.5) / 10

    def x(muons):
        return LEFT + (math.log10(max(muons, 1.0)) - low) / (high - low) * (RIGHT - LEFT)

    def y(depth):
        return TOP + (depth - 200.0) / 800.0 * (BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#f7f9fa"/>',
        f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="#ffffff"/>',
        _text(LEFT, 34, "Protons go deep, iron makes muons", 21, "start", INK, ' font-weight="bold"'),
        _text(LEFT, 56, "Air showers, scaled to one energy. Filled: Sibyll 2.3d; open: Sibyll 2.1", 13, "start", FAINT),
    ]
    for depth in range(300, 1000, 100):
        parts += [_line(LEFT, y(depth), RIGHT, y(depth), GRID), _text(LEFT - 8, y(depth) + 5, depth, 13, "end")]
    for exponent in range(int(low) - 1, int(high) + 2):
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if low <= math.log10(value) <= high:
                parts += [_line(x(value), TOP, x(value), BOTTOM, GRID), _text(x(value), BOTTOM + 20, f"{value:g}", 13)]
    for (model, kind), group in sorted(groups.items()):
        for muons, depth in group:
            if 200.0 < depth < 1000.0:
                parts.append(_mark(model, x(muons), y(depth), COLOURS.get(kind, FAINT)))
    for number, kind in enumerate(sorted({kind for _, kind in groups})):
        parts += [_mark("sibyll23d", RIGHT - 90, TOP + 20 + 20 * number, COLOURS.get(kind, FAINT)), _text(RIGHT - 78, TOP + 25 + 20 * number, kind, 14, "start")]
    parts += [
        f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="none" stroke="{INK}"/>',
        _text((LEFT + RIGHT) / 2, HEIGHT - 24, "muons at the ground", 15),
        f'<text transform="translate(24 {(TOP + BOTTOM) / 2}) rotate(-90)" font-size="15" text-anchor="middle" fill="{INK}">'
        "depth of the maximum [g/cm²]</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
