"""The plots of an attribution: what each group brought, over time and in all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.projects.plots_axes import SMALLEST_FONT, Frame, Label, Panel, around, days_of, number
from engine.tasks.projects.plots_models import MAX_GROUPS, OTHER, timeline
from engine.tasks.projects.plots_svg import FONT_SIZE, GREY, INK, Drawing, Stroke, Text, colour_of, shortened

Array = np.ndarray

BASELINE, PREDICTION, OBSERVED, RESIDUAL = "Baseline", "Prediction", "Observed", "Residual"
BASELINE_COLOUR, OTHER_COLOUR = "#cfcfcf", "#9a9a9a"


@dataclass(frozen=True, slots=True)
class Effect:
    """What one group brought on each date, mean."""

    name: str
    values: Array
    colour: str

    @property
    def total(self) -> float:
        return float(self.values.sum())


@dataclass(frozen=True, slots=True)
class Brought:
    """The table of an attribution, as means by date."""

    dates: Array
    effects: list[Effect]
    prediction: Array
    observed: Array


def brought(folder: Path, names: dict[str, str]) -> Brought:
    """Read the table that `attribute` wrote; groups come with their names, the baseline first.

    names  id of a group -> its name
    """
    table = pq.read_table(folder / "effects.parquet", columns=["Date", "Node", "Mean"])
    nodes = list(dict.fromkeys(table["Node"].to_pylist()))
    by_node = {node: _means(table, node) for node in nodes}
    dates = np.unique(table["Date"].to_numpy().astype("datetime64[D]"))
    groups = [node for node in nodes if node not in (BASELINE, PREDICTION, OBSERVED, RESIDUAL)]
    effects = [Effect(names.get(group, group), by_node[group], colour_of(place)) for place, group in enumerate(groups)]
    baseline = Effect(BASELINE, by_node[BASELINE], BASELINE_COLOUR)
    return Brought(dates, [baseline, *few(effects)], by_node[PREDICTION], by_node[OBSERVED])


def _means(table: pa.Table, node: str) -> Array:
    values: Array = table.filter(pa.compute.equal(table["Node"], node))["Mean"].to_numpy().astype(np.float64)
    return values


def few(effects: list[Effect]) -> list[Effect]:
    """At most MAX_GROUPS of them, those that brought most, and what all others brought together."""
    if len(effects) <= MAX_GROUPS:
        return effects
    by_size = sorted(range(len(effects)), key=lambda place: -float(np.abs(effects[place].values).sum()))
    kept = sorted(by_size[:MAX_GROUPS])
    rest = np.sum([effects[place].values for place in by_size[MAX_GROUPS:]], axis=0)
    return [*(effects[place] for place in kept), Effect(OTHER, rest, OTHER_COLOUR)]


def draw_contributions(drawing: Drawing, found: Brought) -> None:
    """What was brought over time, one on top of the other; what is below zero is stacked downwards."""
    highs = np.cumsum([np.maximum(effect.values, 0) for effect in found.effects], axis=0)
    lows = np.cumsum([np.minimum(effect.values, 0) for effect in found.effects], axis=0)
    days = days_of(found.dates)
    panel = timeline(drawing, days, around(highs[-1], lows[-1], found.observed, with_zero=True))
    panel.draw_dates(found.dates)
    labels = []
    for place, effect in enumerate(found.effects):
        positive, negative = np.maximum(effect.values, 0), np.minimum(effect.values, 0)
        for tops, parts in ((highs[place], positive), (lows[place], negative)):
            if parts.any():
                panel.band(days, np.stack([tops - parts, tops]), effect.colour, 0.9)
        tops = lows[place] if effect.values[-1] < 0 else highs[place]
        labels.append(Label(effect.name, float(tops[-1] - effect.values[-1] / 2), effect.colour))
    panel.draw_numbers()
    panel.line(days, found.observed, Stroke(INK, 1, "3 2"))
    panel.label_right(labels)


def draw_waterfall(drawing: Drawing, found: Brought) -> None:
    """From the baseline over what each group brought to the prediction, a row each."""
    totals = [effect.total for effect in found.effects]
    ends = np.cumsum(totals)
    rows = len(totals) + 1
    height = (drawing.height - 56) / rows
    size = max(SMALLEST_FONT, min(FONT_SIZE, height - 1))
    names, room = min(190.0, drawing.width * 0.3), min(70.0, drawing.width * 0.12)
    frame = Frame(names, 34, drawing.width - room, drawing.height - 22)
    panel = Panel(drawing, frame, around(ends, with_zero=True), (0.0, float(rows)))
    panel.draw_amounts()
    bars = [(effect.name, float(ends[i] - totals[i]), totals[i], effect.colour) for i, effect in enumerate(found.effects)]
    bars.append((PREDICTION, 0.0, float(ends[-1]), INK))
    for place, (name, start, amount, colour) in enumerate(bars):
        top = frame.top + place * height
        left, right = sorted((panel.across(start), panel.across(start + amount)))
        drawing.box((left, top + height * 0.15), (max(right, left + 0.5), top + height * 0.85), colour)
        drawing.text((names - 8, top + height / 2 + size / 3), shortened(name, names - 14, size), Text("end", size))
        drawing.text((right + 4, top + height / 2 + size / 3), number(amount), Text(size=size, colour=GREY))
    zero = panel.across(0.0)
    drawing.line([(zero, frame.top), (zero, frame.bottom)], Stroke(GREY, 1))
