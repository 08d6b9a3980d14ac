"""The six pressures as a shape: an SVG for a page, bars for a terminal.

Drawn by hand, so that it needs no plotting library; sizes are pixels of a 480 × 470 picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from orchestrator.planner.design.pressures import Pressure

WIDTH, HEIGHT = 480, 470
MARK = "<!-- drawn by axis design -->"
"""What every chart begins with, so that a file which is not one is never overwritten."""
_CENTER = (WIDTH / 2, 232.0)
_RADIUS = 140.0
_RINGS = (0.25, 0.5, 0.75, 1.0)
_INK, _FAINT, _FILL, _HOT = "#1f2933", "#c3cbd4", "#2f6f9f", "#b4431f"


def radar_svg(title: str, pressures: Sequence[Pressure]) -> str:
    """A radar chart of the pressures, each spoke with its name and number.

    The ring at ½ is heavier: beyond it one machine is not enough, and the axis is distributed.
    """
    shape = [_at(index, len(pressures), each.pressure) for index, each in enumerate(pressures)]
    parts = [
        f'{MARK}\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" '
        'font-family="system-ui, Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}: pressure on the six axes</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(WIDTH / 2, 30, title, size=_title_size(title), weight=600),
        *_rings(len(pressures)),
        *_spokes(len(pressures)),
        f'<polygon points="{_points(shape)}" fill="{_FILL}" fill-opacity="0.22" '
        f'stroke="{_FILL}" stroke-width="2" stroke-linejoin="round"/>',
        *_dots(pressures, shape),
        *_labels(pressures),
        _text(
            WIDTH / 2, HEIGHT - 12,
            "beyond the heavy ring (0.5) one machine is not enough", size=11, color="#52606d",
        ),
        "</svg>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def bar(pressure: float, width: int = 20) -> str:
    """A pressure as a bar of ``width`` characters."""
    full = round(pressure * width)
    return "█" * full + "·" * (width - full)


def _title_size(title: str) -> int:
    """The largest of the usual sizes at which a bold title stays within the picture."""
    return max(9, min(16, int((WIDTH - 24) / (0.66 * max(1, len(title))))))


def _at(index: int, count: int, reach: float) -> tuple[float, float]:
    angle = -math.pi / 2 + 2 * math.pi * index / count
    x, y = _CENTER
    return x + _RADIUS * reach * math.cos(angle), y + _RADIUS * reach * math.sin(angle)


def _points(corners: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _rings(count: int) -> list[str]:
    drawn = []
    for reach in _RINGS:
        corners = _points(_at(index, count, reach) for index in range(count))
        color, width = (_INK, 1.4) if reach == 0.5 else (_FAINT, 1.0)
        drawn.append(
            f'<polygon points="{corners}" fill="none" stroke="{color}" stroke-width="{width}"/>'
        )
    return drawn


def _spokes(count: int) -> list[str]:
    x, y = _CENTER
    ends = [_at(index, count, 1.0) for index in range(count)]
    return [
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{a:.1f}" y2="{b:.1f}" stroke="{_FAINT}"/>'
        for a, b in ends
    ]


def _dots(pressures: Sequence[Pressure], shape: Sequence[tuple[float, float]]) -> list[str]:
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{_HOT if each.distribute else _FILL}"/>'
        for each, (x, y) in zip(pressures, shape, strict=True)
    ]


def _labels(pressures: Sequence[Pressure]) -> list[str]:
    drawn = []
    for index, each in enumerate(pressures):
        x, y = _at(index, len(pressures), 1.13)
        side = x - _CENTER[0]
        anchor = "middle" if abs(side) < 5 else "start" if side > 0 else "end"
        lift = -14 if index == 0 else 12 if anchor == "middle" else 0
        color = _HOT if each.distribute else _INK
        weight = 600 if each.distribute else 400
        drawn.append(_text(x, y + lift, each.axis, anchor=anchor, color=color, weight=weight))
        drawn.append(_text(x, y + lift + 17, f"{each.pressure:.2f}", anchor=anchor, color=color))
    return drawn


def _text(
    x: float,
    y: float,
    text: str,
    size: int = 13,
    anchor: str = "middle",
    color: str = _INK,
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="{color}">{escape(text)}</text>'
    )
