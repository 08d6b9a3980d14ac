"""Plots of a study as inline SVG: lines over workers, and stacked bars of where a step goes.

Drawn by hand, so that a page needs no library and nothing from outside. Colours are variables of
the page's style, so that one drawing is readable in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 16, 42
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """A line: points over the number of workers. ``style`` names its colour in the page's style;
    ``dashed`` lines are expectations."""

    name: str
    points: tuple[tuple[int, float], ...]
    style: str
    dashed: bool = False


@dataclass(frozen=True)
class Stack:
    """A bar: parts from the bottom up, each ``(style, height)``."""

    label: str
    parts: tuple[tuple[str, float], ...]


def line_chart(
    title: str, unit: str, series: Sequence[Series], shown: Callable[[float], str]
) -> str:
    """Lines over workers, from zero; ``shown`` spells a value of the vertical axis."""
    counts = sorted({count for each in series for count, _ in each.points})
    top = nice_top(max((value for each in series for _, value in each.points), default=1.0))
    body = [*_grid(top, shown), *_counts(counts)]
    for each in series:
        spots = [(_x(count, counts), _y(value, top)) for count, value in each.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        dash = ' stroke-dasharray="5 4"' if each.dashed else ""
        body.append(
            f'<polyline points="{path}" fill="none" stroke="var(--{each.style})" '
            f'stroke-width="2"{dash}/>'
        )
        if not each.dashed or len(spots) == 1:
            body += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--{each.style})"/>'
                for x, y in spots
            ]
    keys = [(each.name, each.style, each.dashed) for each in series]
    return _svg(title, unit, body, keys)


def stack_chart(
    title: str,
    unit: str,
    stacks: Sequence[Stack],
    names: dict[str, str],
    shown: Callable[[float], str],
) -> str:
    """Stacked bars; ``names`` gives each style its word in the legend."""
    top = nice_top(max(sum(height for _, height in each.parts) for each in stacks))
    room = (WIDTH - _LEFT - _RIGHT) / len(stacks)
    width = min(46.0, room * 0.66)
    body = _grid(top, shown)
    for index, each in enumerate(stacks):
        middle = _LEFT + room * (index + 0.5)
        base = 0.0
        for style, height in each.parts:
            upper, lower = _y(base + height, top), _y(base, top)
            base += height
            if lower - upper < 0.05:
                continue
            body.append(
                f'<rect x="{middle - width / 2:.1f}" y="{upper:.1f}" width="{width:.1f}" '
                f'height="{lower - upper:.1f}" fill="var(--{style})"/>'
            )
        body.append(_text(middle, HEIGHT - _BOTTOM + 16, each.label, "middle"))
    used = {style for each in stacks for style, height in each.parts if height > 0}
    return _svg(title, unit, body, [(names[s], s, False) for s in names if s in used])


def nice_top(largest: float) -> float:
    """The end of an axis that holds ``largest``: 1, 2, 2.5 or 5 times a power of ten, times five
    ticks."""
    if largest <= 0 or not math.isfinite(largest):
        return 1.0
    step = largest / _TICKS
    power = 10.0 ** math.floor(math.log10(step))
    nice = next(each for each in (1.0, 2.0, 2.5, 5.0, 10.0) if each * power >= step * (1 - 1e-9))
    return nice * power * _TICKS


def _x(count: int, counts: Sequence[int]) -> float:
    """Numbers of workers stand as far apart as they are; one alone stands in the middle."""
    low, high = counts[0], counts[-1]
    share = 0.5 if low == high else (count - low) / (high - low)
    return _LEFT + 14 + share * (WIDTH - _LEFT - _RIGHT - 28)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)


def _grid(top: float, shown: Callable[[float], str]) -> list[str]:
    lines = []
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        y = _y(value, top)
        lines.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" '
            f'stroke="var(--grid)"/>'
        )
        lines.append(_text(_LEFT - 7, y + 4, shown(value), "end"))
    return lines


def _counts(counts: Sequence[int]) -> list[str]:
    return [_text(_x(c, counts), HEIGHT - _BOTTOM + 16, str(c), "middle") for c in counts]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, unit: str, body: Sequence[str], keys: Sequence[tuple[str, str, bool]]) -> str:
    axis = _text((WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 8, "workers", "middle")
    legend = [
        f'<span><i class="{"dashed" if dashed else "full"}" style="color: var(--{style})"></i>'
        f"{escape(name)}</span>"
        for name, style, dashed in keys
    ]
    return "\n".join(
        [
            f'<figure><figcaption>{escape(title)} <span class="unit">{escape(unit)}</span>'
            "</figcaption>",
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
            *body,
            axis,
            "</svg>",
            f'<p class="legend">{"".join(legend)}</p></figure>',
        ]
    )
