"""Small inline SVG charts: curves over images seen, and bars with error bars.

Colors are CSS classes (`c0`, `c1`, ...), so that a label has one color in the whole page, in its light and its dark
theme. All lengths are in units of the viewBox, which the page scales to the width of its box.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genzoo.bench.markup import tag, text

WIDTH = 340
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 22, 30  # around a panel of curves
HEIGHT = 190
BAR_ROW = 30  # label above, bar below
LOG_ABOVE = 50  # largest / smallest value above which an axis is logarithmic
LOG_ABOVE_GUIDE = 10  # largest value / largest guide above which that of curves with guides is
COLORS = 7  # classes c0..c6 in report.css; further labels repeat them with dotted lines
NAME_LENGTH = 34  # longest label beside its value

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line: a run's values over images seen."""

    style: int
    # (images seen, value); a gap where either is None or not finite
    points: tuple[tuple[float | None, float | None], ...]
    title: str  # tooltip


@dataclass(frozen=True)
class Guide:
    """A reference value of the objective: a dashed horizontal line."""

    value: float
    labels: tuple[str, ...]  # of the runs with this value
    style: int | None  # None if there are several


@dataclass(frozen=True)
class Bar:
    """A mean with its standard deviation, if any."""

    label: str
    style: int
    mean: float
    std: float | None
    text: str


@dataclass(frozen=True)
class Axis:
    """A scale from data to [0, 1]."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def style_class(style: int) -> str:
    """CSS classes of a label's marks."""
    return f"c{style % COLORS}" + (" dotted" if style // COLORS % 2 else "")


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows these values better: all positive, and their ratio is above LOG_ABOVE."""
    return min(values) > 0 and max(values) / min(values) > LOG_ABOVE


def log_axis(values: Sequence[float]) -> Axis:
    """Fits an axis to positive values."""
    low, high = min(values) / 1.15, max(values) * 1.15
    return Axis(low, high, True, log_ticks(low, high))


def linear_axis(values: Sequence[float], zero: bool = False) -> Axis:
    """Fits an axis to values; with `zero` it starts or ends at zero if they all have one sign."""
    low, high = (min(*values, 0.0), max(*values, 0.0)) if zero else (min(values), max(values))
    space = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = (low if zero and low == 0 else low - space), (high if zero and high == 0 and low else high + space)
    return Axis(low, high, False, linear_ticks(low, high))


def curve_axis(values: Sequence[float]) -> Axis:
    """Fits the axis of a panel of curves."""
    return log_axis(values) if spans_decades(values) else linear_axis(values)


def guided_axis(values: Sequence[float], guides: Sequence[float]) -> Axis:
    """Fits the axis of curves with guides: linear from zero, unless the curves are far above the guides."""
    far = max(values) > LOG_ABOVE_GUIDE * max(guides) and min(*values, *guides) > 0
    return log_axis([*values, *guides]) if far else linear_axis([*values, *guides], zero=True)


def linear_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Returns round numbers between two values, in steps of 1, 2 or 5 times a power of ten.

    There are none where the difference of the values is too large or too small for a number.
    """
    if not sys.float_info.min <= (high - low) / most < math.inf:
        return ()
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(f * power for f in (1, 2, 5, 10) if (high - low) / (f * power) <= most)
    return tuple(i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1))


def log_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Returns powers of ten between two positive values: also 2 and 5 if they are few, every n-th if they are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(ticks) <= 2:
        ticks = [f * 10.0**p for p in powers for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    return tuple(ticks[:: math.ceil(len(ticks) / most)])


def short(value: float) -> str:
    """Writes a tick: 1500 -> 1.5k, 2000000 -> 2M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e12:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def curve_chart(name: str, curves: Sequence[Curve], guides: Sequence[Guide], y: Axis) -> str:
    """Draws one panel of curves over images seen, with guides as dashed lines."""
    last = max((x for curve in curves for run in _runs(curve) for x, _ in run), default=1.0)
    last = last if last > 0 else 1.0
    x = Axis(0.0, last, False, linear_ticks(0.0, last, 4))
    panel = _Panel(x, y)
    parts = [tag("text", text(f"{name}, log scale" if y.log else name), x=LEFT, y=13, class_="name"), *_grid(panel)]
    parts += [_curve(curve, panel) for curve in curves]
    parts += [_guide(guide, panel) for guide in guides]
    if guides:
        legend = f"- - guide {', '.join(f'{guide.value:g}' for guide in guides)}"
        parts.append(tag("text", text(legend), x=WIDTH - RIGHT, y=13, text_anchor="end"))
    return _svg(f"{name} over images seen", HEIGHT, parts)


class _Panel:
    """Coordinates in a panel of curves."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x_axis, self.y_axis = x, y

    def x(self, value: float) -> str:
        return _short_length(LEFT + (WIDTH - LEFT - RIGHT) * self.x_axis.at(value))

    def y(self, value: float) -> str:
        return _short_length(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.y_axis.at(value))


def _short_length(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _grid(panel: _Panel) -> Iterable[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in panel.y_axis.ticks:
        y = panel.y(tick)
        yield tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid")
        yield tag("text", text(short(tick)), x=LEFT - 5, y=y, dy="0.32em", text_anchor="end")
    yield tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis")
    for tick in panel.x_axis.ticks:
        yield tag("text", text(short(tick)), x=panel.x(tick), y=bottom + 13, text_anchor="middle")
    yield tag("text", "images seen", x=right, y=HEIGHT - 4, text_anchor="end")


def _curve(curve: Curve, panel: _Panel) -> str:
    drawn = []
    for run in _runs(curve):
        points = [f"{panel.x(x)} {panel.y(y)}" for x, y in run]
        drawn.append(f"M{' '.join(points)}" if len(points) > 1 else f"M{points[0]}h.1")
    return tag("path", tag("title", text(curve.title)), d="".join(drawn), class_=f"curve {style_class(curve.style)}")


def _runs(curve: Curve) -> list[list[Point]]:
    """Splits a curve at its gaps."""
    runs: list[list[Point]] = [[]]
    for x, y in curve.points:
        if x is None or y is None or not math.isfinite(x) or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _guide(guide: Guide, panel: _Panel) -> str:
    y = panel.y(guide.value)
    class_ = "guide" if guide.style is None else f"guide {style_class(guide.style).split()[0]}"
    title = tag("title", text(f"guide {guide.value:g} of {', '.join(guide.labels)}"))
    return tag("line", title, x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=class_)


def finite(curves: Iterable[Curve]) -> list[float]:
    """Lists the finite values of curves."""
    return [y for curve in curves for run in _runs(curve) for _, y in run]


def bar_chart(name: str, bars: Sequence[Bar]) -> str:
    """Draws horizontal bars from zero with error bars; dots if the axis is logarithmic, which has no zero."""
    ends = [end for bar in bars for end in (bar.mean, bar.mean - (bar.std or 0), bar.mean + (bar.std or 0))]
    log = spans_decades([bar.mean for bar in bars])
    axis = log_axis([end for end in ends if end > 0]) if log else linear_axis(ends, zero=True)
    bottom = TOP + BAR_ROW * len(bars)
    parts = [tag("text", text(f"{name}, log scale" if log else name), x=2, y=13, class_="name")]
    for tick in axis.ticks:
        x = _along(axis, tick)
        parts.append(tag("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid"))
        parts.append(tag("text", text(short(tick)), x=x, y=bottom + 13, text_anchor="middle"))
    for row, bar in enumerate(bars):
        parts.append(_bar(bar, axis, TOP + BAR_ROW * row))
    return _svg(f"{name}: {'; '.join(f'{bar.label} {bar.text}' for bar in bars)}", bottom + 18, parts)


def _along(axis: Axis, value: float) -> str:
    return _short_length(12 + (WIDTH - 24) * min(max(axis.at(value), 0.0), 1.0))


def _bar(bar: Bar, axis: Axis, top: int) -> str:
    name = bar.label if len(bar.label) <= NAME_LENGTH else f"{bar.label[: NAME_LENGTH - 1]}…"
    label = tag("text", text(name), x=12, y=top + 12, class_="halo label")
    value = tag("text", text(bar.text), x=WIDTH - 12, y=top + 12, text_anchor="end", class_="halo label")
    end, y = _along(axis, bar.mean), top + 22
    if axis.log:
        mark = tag("circle", cx=end, cy=y, r=4.5, class_=f"fill {style_class(bar.style)}")
    else:
        start, stop = sorted((float(_along(axis, 0.0)), float(end)))
        mark = tag(
            "rect",
            x=_short_length(start),
            y=y - 5,
            width=_short_length(stop - start),
            height=10,
            class_=f"fill {style_class(bar.style)}",
        )
    error = ""
    if bar.std:
        bottom = bar.mean - bar.std
        low = _along(axis, max(bottom, axis.low) if axis.log else bottom)
        high = _along(axis, bar.mean + bar.std)
        error = tag("path", d=f"M{low} {y}H{high}M{low} {y - 3}v6M{high} {y - 3}v6", class_="error")
    return tag("g", tag("title", text(f"{bar.label}: {bar.text}")), label, value, mark, error)


def _svg(description: str, height: int, parts: Iterable[str]) -> str:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=description)
