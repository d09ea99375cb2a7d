"""The plot, drawn by hand as SVG: intensity over depth on a log axis, and below it the ratio to the published ones."""

import math

WIDTH, HEIGHT = 860, 720
LEFT, RIGHT = 96, 830
TOP, MIDDLE = 92, 476  # the upper panel
LOWER, BOTTOM = 500, 640  # the panel of ratios
DEPTHS = (1.2, 3.1)  # km w.e.
DECADES = (-8, -6)  # of intensity, stretched to 6e-7 below
CEILING = math.log10(7e-7)
FLOOR = math.log10(1.6e-8)
RATIOS = (0.7, 1.3)
INK, FAINT, GRID = "#22303c", "#66757f", "#e3e8ec"
COLOURS = {"mei-hime": "#d1495b", "heisinger": "#2a7f9e", "dumand": "#7a5195"}
SIMULATED = "#1b1f23"
SUBTITLE = "Vertical intensity against depth. Gaisser's spectrum, fluctuating losses, detector at 1450–2450 m"
NOTE = "1 km w.e. = 10⁵ g/cm². Bars: one standard deviation, statistical."


def _x(depth):
    return LEFT + (depth - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0]) * (RIGHT - LEFT)


def _y(intensity):
    return MIDDLE - (math.log10(intensity) - FLOOR) / (CEILING - FLOOR) * (MIDDLE - TOP)


def _ratio_y(ratio):
    return BOTTOM - (ratio - RATIOS[0]) / (RATIOS[1] - RATIOS[0]) * (BOTTOM - LOWER)


def _text(x, y, words, size=14, anchor="middle", colour=INK, more=""):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s"%s>%s</text>' % (
        x, y, size, anchor, colour, more, words,
    )  # fmt: skip


def _line(x1, y1, x2, y2, colour, width=1.0, more=""):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"%s/>' % (
        x1, y1, x2, y2, colour, width, more,
    )  # fmt: skip


def _power(x, y, exponent):
    up = '<tspan dy="-6" font-size="10">−%d</tspan>' % -exponent
    return '<text x="%.1f" y="%.1f" font-size="14" text-anchor="end" fill="%s">10%s</text>' % (x, y, INK, up)


def _axes():
    parts = []
    for panel_top, panel_bottom in ((TOP, MIDDLE), (LOWER, BOTTOM)):
        size = (LEFT, panel_top, RIGHT - LEFT, panel_bottom - panel_top)
        parts.append('<rect x="%d" y="%d" width="%d" height="%d" fill="#ffffff"/>' % size)
    for tick in range(2, 7):
        depth = 0.5 * tick
        for panel_top, panel_bottom in ((TOP, MIDDLE), (LOWER, BOTTOM)):
            if DEPTHS[0] < depth < DEPTHS[1]:
                parts.append(_line(_x(depth), panel_top, _x(depth), panel_bottom, GRID))
    for step in range(13, 31):
        depth = 0.1 * step
        length = 7 if step % 5 == 0 else 4
        parts.append(_line(_x(depth), BOTTOM, _x(depth), BOTTOM - length, INK))
        if step % 5 == 0:
            parts.append(_text(_x(depth), BOTTOM + 20, "%.1f" % depth))
    for exponent in range(DECADES[0], DECADES[1]):
        for digit in range(1, 10):
            value = digit * 10.0**exponent
            if not FLOOR <= math.log10(value) <= CEILING:
                continue
            if digit == 1:
                parts.append(_line(LEFT, _y(value), RIGHT, _y(value), GRID))
                parts.append(_power(LEFT - 10, _y(value) + 5, exponent))
            elif digit in (2, 5):
                label = "%d × 10" % digit
                up = '<tspan dy="-5" font-size="9">−%d</tspan>' % -exponent
                parts.append(
                    '<text x="%.1f" y="%.1f" font-size="12" text-anchor="end" fill="%s">%s%s</text>'
                    % (LEFT - 10, _y(value) + 4, FAINT, label, up)
                )
            parts.append(_line(LEFT, _y(value), LEFT + (7 if digit == 1 else 4), _y(value), INK))
    band = (LEFT, _ratio_y(1.2), RIGHT - LEFT, _ratio_y(0.8) - _ratio_y(1.2))
    parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f2f5e6"/>' % band)
    for ratio in (0.8, 1.0, 1.2):
        parts.append(_line(LEFT, _ratio_y(ratio), RIGHT, _ratio_y(ratio), FAINT if ratio == 1.0 else GRID))
        parts.append(_text(LEFT - 10, _ratio_y(ratio) + 5, "%.1f" % ratio, 13, "end"))
    parts.append(_text(RIGHT - 8, _ratio_y(1.2) + 15, "± 20 %", 12, "end", FAINT))
    return parts


def _frames():
    return [
        '<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="%s"/>' % (LEFT, a, RIGHT - LEFT, b - a, INK)
        for a, b in ((TOP, MIDDLE), (LOWER, BOTTOM))
    ]


def _published(published):
    parts = []
    for source in sorted(published):
        colour = COLOURS.get(source, FAINT)
        points = [point for point in published[source] if DEPTHS[0] <= point[0] <= DEPTHS[1]]
        if len(points) > 1:
            if points[0][2] is not None:
                edge = [(depth, value + error) for depth, value, error in points]
                edge += [(depth, value - error) for depth, value, error in reversed(points)]
                corners = " ".join("%.1f,%.1f" % (_x(depth), _y(value)) for depth, value in edge)
                parts.append('<polygon points="%s" fill="%s" fill-opacity="0.15"/>' % (corners, colour))
            corners = " ".join("%.1f,%.1f" % (_x(depth), _y(value)) for depth, value, _ in points)
            parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (corners, colour))
        for depth, value, error in points if len(points) == 1 else ():
            x, y = _x(depth), _y(value)
            parts.append(_line(x, _y(value + error), x, _y(value - error), colour, 1.5))
            parts.append('<rect x="%.1f" y="%.1f" width="9" height="9" fill="%s"/>' % (x - 4.5, y - 4.5, colour))
    return parts


def _dot(x, y, error_top, error_bottom, colour, radius=4.0, fill=None):
    bar = _line(x, error_top, x, error_bottom, colour, 1.5)
    shape = '<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s" stroke="%s" stroke-width="1.5"/>'
    return bar + shape % (x, y, radius, fill or colour, colour)


def _legend(published, titles, jobs):
    rows = [("simulated", "this simulation, %d jobs" % jobs)] + [
        (source, titles.get(source, source)) for source in sorted(published, key=lambda s: (len(published[s]) == 1, s))
    ]
    left, top = RIGHT - 372, TOP + 14
    parts = [
        '<rect x="%d" y="%d" width="358" height="%d" rx="4" fill="#ffffff" stroke="%s"/>'
        % (left, top, 14 + 24 * len(rows), GRID)
    ]
    for number, (source, words) in enumerate(rows):
        y = top + 19 + 24 * number
        if source == "simulated":
            parts.append(_dot(left + 26, y, y - 9, y + 9, SIMULATED))
        elif len(published[source]) > 1:
            parts.append(_line(left + 10, y, left + 42, y, COLOURS.get(source, FAINT), 2))
        else:
            parts.append(_line(left + 26, y - 9, left + 26, y + 9, COLOURS.get(source, FAINT), 1.5))
            parts.append(
                '<rect x="%.1f" y="%.1f" width="9" height="9" fill="%s"/>'
                % (left + 21.5, y - 4.5, COLOURS.get(source, FAINT))
            )
        parts.append(_text(left + 54, y + 5, words, 13, "start"))
    return parts


def draw(table, published, titles, published_at, jobs):
    """The whole SVG as text. ``table`` is what merge() made; ``published_at`` reads a published relation at a depth."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">' % (WIDTH, HEIGHT, WIDTH, HEIGHT),
        '<rect width="%d" height="%d" fill="#f7f9fa"/>' % (WIDTH, HEIGHT),
        _text(LEFT, 42, "Cosmic-ray muons in deep ice", 22, "start", INK, ' font-weight="bold"'),
        _text(LEFT, 68, SUBTITLE, 14, "start", FAINT),
    ]
    parts += _axes() + _published(published)
    curves = sorted(source for source in published if len(published[source]) > 1)
    for row in table:
        x, value, error = _x(row["depth_kmwe"]), row["intensity_cm2_s_sr"], row["error_cm2_s_sr"]
        if not FLOOR < math.log10(value) < CEILING:
            continue
        lowest = max(value - error, 10.0**FLOOR)
        parts.append(_dot(x, _y(value), _y(value + error), _y(lowest), SIMULATED))
        for shift, source in enumerate(curves):
            reference = published_at(published[source], row["depth_kmwe"])
            if not reference or not RATIOS[0] < value / reference < RATIOS[1]:
                continue
            ratio, spread = value / reference, error / reference
            beside = x + 5.0 * (shift - 0.5 * (len(curves) - 1))
            high, low = min(ratio + spread, RATIOS[1]), max(ratio - spread, RATIOS[0])
            parts.append(_dot(beside, _ratio_y(ratio), _ratio_y(high), _ratio_y(low), COLOURS.get(source, FAINT), 3.2))
    parts += _frames() + _legend(published, titles, jobs)
    middle = 0.5 * (TOP + MIDDLE)
    parts.append(
        '<text transform="translate(26 %.1f) rotate(-90)" font-size="15" text-anchor="middle" fill="%s">'
        'vertical muon intensity  [cm<tspan dy="-5" font-size="10">−2</tspan><tspan dy="5"> s</tspan>'
        '<tspan dy="-5" font-size="10">−1</tspan><tspan dy="5"> sr</tspan>'
        '<tspan dy="-5" font-size="10">−1</tspan><tspan dy="5">]</tspan></text>' % (middle, INK)
    )
    parts.append(
        '<text transform="translate(26 %.1f) rotate(-90)" font-size="14" text-anchor="middle" fill="%s">'
        "sim. / published</text>" % (0.5 * (LOWER + BOTTOM), INK)
    )
    parts.append(_text(0.5 * (LEFT + RIGHT), BOTTOM + 46, "depth along the muon  [km water equivalent]", 15))
    parts.append(_text(LEFT, HEIGHT - 12, NOTE, 12, "start", FAINT))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
