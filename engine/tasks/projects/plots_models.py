"""The plots of a model: how it fits, what is left, its baseline, and its response curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator

from engine.frames import Header
from engine.tasks.projects.effects import Effects
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.plots_axes import Frame, Label, Panel, around, days_of, number
from engine.tasks.projects.plots_svg import COLOURS, FONT_SIZE, GREY, INK, PALE, Drawing, Stroke, Text, shortened
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.sources import Dataset

Array = np.ndarray

# Enough for a band, and quick.
NUM_DRAWS = 100
LEVELS = (0.05, 0.95)
# More panels than this share the last one.
MAX_GROUPS = 40
OTHER = "other"
BLUE = COLOURS[0]


@dataclass(frozen=True, slots=True)
class Seen:
    """A model on its training and evaluation dates; [dates], bands [2, dates]."""

    dates: Array
    is_eval: Array
    observed: Array
    prediction: Array
    band: Array
    baseline: Array
    baseline_band: Array

    @property
    def days(self) -> Array:
        return days_of(self.dates)


def seen(header: Header) -> Seen:
    """What the first three plots show. The noise of the band is the same every time."""
    fitted = Fitted.read(Path(header["model"]))
    dataset = Dataset(header["files"], fitted.combination)
    readings, _ = Readings.of(fitted.instance, dataset)
    part = fitted.spaced(min(NUM_DRAWS, len(fitted.draws)))
    effects = Effects(part, readings)
    is_eval = dataset.mask(header["eval_dates"])
    shown = dataset.mask(fitted.train_dates) | is_eval
    target = fitted.instance.target
    sigma = part.draws[:, part.instance.columns[target.id, "sigma"][0]] * target.params["scale"]
    prediction = effects.prediction[:, shown]
    noise = Generator(PCG64(0)).standard_normal(prediction.shape)
    baseline = np.broadcast_to(effects.baseline, effects.prediction.shape)[:, shown]
    return Seen(
        readings.periods.starts[shown],
        is_eval[shown],
        readings.observed[target.id][shown],
        prediction.mean(axis=0),
        np.quantile(prediction + sigma[:, None] * noise, LEVELS, axis=0),
        baseline.mean(axis=0),
        np.quantile(baseline, LEVELS, axis=0),
    )


def timeline(drawing: Drawing, days: Array, y: tuple[float, float]) -> Panel:
    """The one panel of a plot over time, with room for labels at its right."""
    room = min(170.0, drawing.width * 0.3)
    frame = Frame(58, 34, drawing.width - room, drawing.height - 30)
    return Panel(drawing, frame, (float(days[0]), float(days[-1])), y)


def draw_title(drawing: Drawing, title: str) -> None:
    drawing.text((12, 20), shortened(title, drawing.width - 24, 13), Text(size=13))


def _framed(drawing: Drawing, found: Seen, y: tuple[float, float]) -> Panel:
    """The panel with its axes; evaluation dates stand on grey."""
    panel = timeline(drawing, found.days, y)
    if found.is_eval.any():
        days = found.days[found.is_eval]
        left, right = panel.across(float(days[0])), panel.across(float(days[-1]))
        drawing.box((left, panel.frame.top), (max(right, left + 1), panel.frame.bottom), "#f4f4f4")
        drawing.text(((left + right) / 2, panel.frame.top - 3), "evaluation", Text("middle", 9, GREY))
    panel.draw_numbers()
    panel.draw_dates(found.dates)
    return panel


def draw_fit(drawing: Drawing, found: Seen) -> None:
    """What was observed and what the model says, with the band that 90 % of the values should be in."""
    panel = _framed(drawing, found, around(found.observed, found.band))
    panel.band(found.days, found.band, BLUE)
    panel.line(found.days, found.prediction, Stroke(BLUE))
    panel.line(found.days, found.observed, Stroke(INK, 1, "3 2"))
    panel.label_right([Label("Prediction, 90 %", float(found.prediction[-1]), BLUE), Label("Observed", float(found.observed[-1]))])


def draw_residuals(drawing: Drawing, found: Seen) -> None:
    """What was observed less what the model says."""
    residuals = found.observed - found.prediction
    panel = _framed(drawing, found, around(residuals, with_zero=True))
    for day, value in zip(found.days, residuals, strict=True):
        drawing.line([panel.at(day, 0.0), panel.at(day, value)], Stroke(BLUE, 1))
        drawing.dot(panel.at(day, value), 2, BLUE)
    panel.label_right([Label("Residual", float(residuals[-1]), BLUE)])


def draw_baseline(drawing: Drawing, found: Seen) -> None:
    """What the model says would have been without any effect, beside what it says."""
    panel = _framed(drawing, found, around(found.prediction, found.observed, found.baseline_band, with_zero=True))
    panel.band(found.days, found.baseline_band, BLUE)
    panel.line(found.days, found.baseline, Stroke(BLUE))
    panel.line(found.days, found.prediction, Stroke(GREY, 1))
    panel.line(found.days, found.observed, Stroke(INK, 1, "3 2"))
    ends = [("Baseline, 90 %", found.baseline, BLUE), ("Prediction", found.prediction, GREY), ("Observed", found.observed, INK)]
    panel.label_right([Label(name, float(values[-1]), colour) for name, values, colour in ends])


# Response curves


@dataclass(frozen=True, slots=True)
class Curve:
    """One channel: what its series times each factor brings. x is the spend, or the factor where there is no spend."""

    name: str
    x: Array
    mean: Array
    band: Array | None
    is_spend: bool


def curve_of(name: str, entry: dict[str, Any]) -> Curve:
    """One entry of `Response`."""
    points = entry["Points"]
    is_spend = all(point["Spend"] is not None for point in points) and points[-1]["Spend"] > 0
    x = np.array([point["Spend" if is_spend else "Factor"] for point in points])
    effects = {key: np.array([point["Effect"][key] for point in points], dtype=np.float64) for key in ("Mean", "P5", "P95")}
    return Curve(name, x, effects["Mean"], np.stack([effects["P5"], effects["P95"]]), is_spend)


def few(curves: list[Curve]) -> list[Curve]:
    """At most MAX_GROUPS curves of those that bring most, and one for what all others bring together, by factor."""
    if len(curves) <= MAX_GROUPS:
        return curves
    by_size = sorted(range(len(curves)), key=lambda place: -abs(float(curves[place].mean.max())))
    kept = sorted(by_size[:MAX_GROUPS])
    rest = [curves[place] for place in by_size[MAX_GROUPS:]]
    factors = np.linspace(0, 2, len(rest[0].mean))
    other = Curve(OTHER, factors, np.sum([curve.mean for curve in rest], axis=0), None, is_spend=False)
    return [*(curves[place] for place in kept), other]


def draw_response(drawing: Drawing, curves: list[Curve]) -> None:
    """A panel for each channel: mean and 90 % band, grey beyond factor 1, where nothing was seen."""
    curves = few(curves)
    columns = int(np.ceil(np.sqrt(len(curves) * drawing.width / drawing.height / 1.4))) if curves else 1
    columns = max(1, min(columns, len(curves)))
    rows = -(-len(curves) // columns)
    width, height = drawing.width / columns, (drawing.height - 26) / max(1, rows)
    for place, curve in enumerate(curves):
        left, top = (place % columns) * width, 26 + (place // columns) * height
        _draw_curve(drawing, curve, Frame(left + min(46, width / 4), top + 18, left + width - 8, top + height - 22))


def _draw_curve(drawing: Drawing, curve: Curve, frame: Frame) -> None:
    bands = [] if curve.band is None else [curve.band]
    panel = Panel(drawing, frame, (float(curve.x[0]), float(curve.x[-1])), around(curve.mean, *bands, with_zero=True))
    panel.draw_numbers()
    middle = len(curve.x) // 2
    for part, colour in ((slice(middle, None), GREY), (slice(0, middle + 1), BLUE)):
        if curve.band is not None:
            panel.band(curve.x[part], curve.band[:, part], colour)
        panel.line(curve.x[part], curve.mean[part], Stroke(colour))
    drawing.line([panel.at(curve.x[middle], panel.y[0]), panel.at(curve.x[middle], panel.y[1])], Stroke(PALE, 1))
    drawing.text((frame.left, frame.top - 5), shortened(curve.name, frame.right - frame.left), Text())
    unit = "spend" if curve.is_spend else "factor"
    told = f"{unit} {number(float(curve.x[0]))} to {number(float(curve.x[-1]))}"
    drawing.text((frame.left, frame.bottom + FONT_SIZE), shortened(told, frame.right - frame.left, 9), Text(size=9, colour=GREY))
