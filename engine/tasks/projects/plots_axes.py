"""The parts that plots share: a panel with axes, numbers and dates along them, and labels beside what they name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.tasks.projects.plots_svg import FONT_SIZE, GREY, INK, PALE, Drawing, Point, Stroke, Text, shortened, spread

Array = np.ndarray

# Pixels between two numbers along an axis, at least.
NUMBER_GAP, DATE_GAP = 40.0, 90.0
LABEL_GAP = FONT_SIZE + 2
SMALLEST_FONT = 4.0
TICK_LENGTH = 4.0
SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside the end of a line or of a band, at the value that it names."""

    text: str
    value: float
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle that a panel takes in its drawing."""

    left: float
    top: float
    right: float
    bottom: float


class Panel:
    """A pair of axes in a drawing: values become places.

    x, y  the least and the largest value along each axis
    """

    def __init__(self, drawing: Drawing, frame: Frame, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.drawing = drawing
        self.frame = frame
        self.x, self.y = widened(*x), widened(*y)

    def at(self, x: float, y: float) -> Point:
        return self.across(x), self.down(y)

    def across(self, x: float) -> float:
        return self.frame.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.frame.right - self.frame.left)

    def down(self, y: float) -> float:
        return self.frame.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.frame.bottom - self.frame.top)

    def points(self, x: Array, y: Array) -> list[Point]:
        """The points; those whose y is NaN or infinite are left out."""
        return [self.at(float(one), float(other)) for one, other in zip(x, y, strict=True) if np.isfinite(other)]

    def line(self, x: Array, y: Array, stroke: Stroke) -> None:
        self.drawing.line(self.points(x, y), stroke)

    def band(self, x: Array, edges: Array, colour: str, opacity: float = 0.25) -> None:
        """The area between two lines, [2, values]."""
        low, high = (self.points(x, edge) for edge in edges)
        self.drawing.area([*low, *reversed(high)], colour, opacity)

    # Axes

    def draw_numbers(self) -> None:
        """The axis at the left, with lines across the panel."""
        count = max(2, int((self.frame.bottom - self.frame.top) / NUMBER_GAP))
        for value in ticks(*self.y, count):
            place = self.down(value)
            self.drawing.line([(self.frame.left, place), (self.frame.right, place)], Stroke(GREY if value == 0 else PALE, 1))
            self.drawing.text((self.frame.left - 6, place + 4), number(value), Text("end", colour=GREY))

    def draw_amounts(self) -> None:
        """Numbers along the axis below."""
        count = max(2, int((self.frame.right - self.frame.left) / DATE_GAP))
        for value in ticks(*self.x, count):
            self._tick(value, number(value))

    def draw_dates(self, dates: Array) -> None:
        """Some of the dates along the axis below, where x is days since 1970."""
        count = max(2, int((self.frame.right - self.frame.left) / DATE_GAP))
        for place in np.unique(np.linspace(0, len(dates) - 1, min(count, len(dates))).astype(int)):
            self._tick(float(dates[place].astype(np.int64)), str(dates[place]))

    def _tick(self, value: float, text: str) -> None:
        place, bottom = self.across(value), self.frame.bottom
        self.drawing.line([(place, bottom), (place, bottom + TICK_LENGTH)], Stroke(GREY, 1))
        self.drawing.text((place, bottom + TICK_LENGTH + FONT_SIZE), text, Text("middle", colour=GREY))

    # Labels

    def label_right(self, labels: Sequence[Label]) -> None:
        """Labels at the right of the panel, beside the places that they name; none stands upon another."""
        if not labels:
            return
        top, bottom = self.frame.top, self.frame.bottom
        size = max(SMALLEST_FONT, min(FONT_SIZE, (bottom - top) / len(labels) - 1))
        wanted = [self.down(label.value) for label in labels]
        room = self.drawing.width - self.frame.right - 16
        for label, at, place in zip(labels, wanted, spread(wanted, top, bottom, min(LABEL_GAP, size + 2)), strict=True):
            edge = self.frame.right
            self.drawing.line([(edge, at), (edge + 10, place)], Stroke(label.colour, 0.75))
            self.drawing.text((edge + 13, place + size / 3), shortened(label.text, room, size), Text(size=size))


def days_of(dates: Array) -> Array:
    """Days since 1970 as float64."""
    return dates.astype("datetime64[D]").astype(np.int64).astype(np.float64)


def widened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if high > low else (low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2)


def around(*arrays: Array, with_zero: bool = False) -> tuple[float, float]:
    """The range of all these numbers and a little more at each end."""
    values = np.concatenate([np.ravel(array) for array in arrays])
    values = values[np.isfinite(values)]
    if with_zero or not len(values):
        values = np.append(values, 0.0)
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low)
    return low - (margin if low else 0.0), high + (margin if high else 0.0)


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most about `count` round numbers between two."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def number(value: float) -> str:
    """A number in few characters: 1.5M, 12k, 0.25."""
    for size, suffix in SUFFIXES:
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"
