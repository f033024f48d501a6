"""SVG by hand: lines, areas and texts on white ground. The same calls give the same bytes, and every text is escaped."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Point = tuple[float, float]

# XML has no way to write these characters.
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
FONT_SIZE = 11.0
# The width of a character as a share of the size of its font, on average.
CHARACTER_WIDTH = 0.58
INK, GREY, PALE = "#222222", "#777777", "#e4e4e4"
# Colours that people who see no red or no green can tell apart as well.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#b8a600", "#5a7d2a", "#a0522d")


@dataclass(frozen=True, slots=True)
class Stroke:
    """How a line looks. dash: lengths of marks and gaps, or empty for a whole line."""

    colour: str = INK
    width: float = 1.5
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """How a text stands. anchor: which end of it is at its place; `start`, `middle` or `end`."""

    anchor: str = "start"
    size: float = FONT_SIZE
    colour: str = INK


PLAIN_TEXT, PLAIN_STROKE = Text(), Stroke()


class Drawing:
    """A picture of `width` times `height` pixels; y grows downwards."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width = width
        self.height = height
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img">',
            f"<title>{escaped(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def line(self, points: Iterable[Point], stroke: Stroke = PLAIN_STROKE) -> None:
        dash = f' stroke-dasharray="{stroke.dash}"' if stroke.dash else ""
        look = f'fill="none" stroke="{stroke.colour}" stroke-width="{written(stroke.width)}"{dash}'
        self._parts.append(f'<polyline points="{_points(points)}" {look}/>')

    def area(self, points: Iterable[Point], colour: str, opacity: float = 1.0) -> None:
        shade = "" if opacity == 1 else f' fill-opacity="{written(opacity)}"'
        self._parts.append(f'<polygon points="{_points(points)}" fill="{colour}"{shade}/>')

    def box(self, low: Point, high: Point, colour: str) -> None:
        """A rectangle between two corners."""
        self.area([low, (high[0], low[1]), high, (low[0], high[1])], colour)

    def dot(self, place: Point, radius: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{written(place[0])}" cy="{written(place[1])}" r="{written(radius)}" fill="{colour}"/>')

    def text(self, place: Point, text: str, look: Text = PLAIN_TEXT) -> None:
        x, y = map(written, place)
        style = f'text-anchor="{look.anchor}" font-size="{written(look.size)}" fill="{look.colour}"'
        self._parts.append(f'<text x="{x}" y="{y}" {style}>{escaped(text)}</text>')

    def svg(self) -> bytes:
        return "\n".join([*self._parts, "</svg>", ""]).encode()


def escaped(text: str) -> str:
    """A text as it may stand in XML."""
    return escape(NOT_IN_XML.sub("�", text), {'"': "&quot;"})


def written(value: float) -> str:
    """A coordinate, to a hundredth of a pixel."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def shortened(text: str, width: float, size: float = FONT_SIZE) -> str:
    """As much of a text as about fits into a width, in pixels."""
    most = max(3, int(width / (size * CHARACTER_WIDTH)))
    return text if len(text) <= most else text[: most - 1] + "…"


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{written(x)},{written(y)}" for x, y in points)


def colour_of(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def spread(wanted: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Places between low and high, in the order of the wanted ones and near them, at least a gap apart as far as there is room."""
    gap = min(gap, (high - low) / max(1, len(wanted)))
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    places = [0.0] * len(wanted)
    free = low
    for number in order:
        places[number] = max(wanted[number], free)
        free = places[number] + gap
    free = high
    for number in reversed(order):
        places[number] = min(places[number], free)
        free = places[number] - gap
    return places
