"""The task `plot`: a model or an attribution as a picture.

The names of nodes come from people, so each goes through the one place that escapes texts (plots_svg.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.projects import plots_attributions, plots_models
from engine.tasks.projects.plots_svg import Drawing

OF_MODEL: dict[str, Callable[[Drawing, plots_models.Seen], None]] = {
    "fit": plots_models.draw_fit,
    "residuals": plots_models.draw_residuals,
    "baseline": plots_models.draw_baseline,
}
OF_ATTRIBUTION: dict[str, Callable[[Drawing, plots_attributions.Brought], None]] = {
    "contributions": plots_attributions.draw_contributions,
    "waterfall": plots_attributions.draw_waterfall,
}


def plot(header: Header, payload: memoryview) -> bytes:
    """The answer of the task, SVG. Refusal."""
    kind = header["kind"]
    cut = header["graph_bytes"]
    names = names_of(codec.parse_json(bytes(payload[:cut])))
    drawing = Drawing(header["width"], header["height"], header["title"])
    plots_models.draw_title(drawing, header["title"])
    if kind in OF_MODEL:
        OF_MODEL[kind](drawing, plots_models.seen(header))
    elif kind in OF_ATTRIBUTION:
        OF_ATTRIBUTION[kind](drawing, plots_attributions.brought(Path(header["attribution"]), names))
    else:
        curves = codec.parse_json(bytes(payload[cut:]))
        plots_models.draw_response(
            drawing, [plots_models.curve_of(names.get(curve["Node"], curve["Node"]), curve) for curve in curves]
        )
    return drawing.svg()


def names_of(graph: dict[str, Any]) -> dict[str, str]:
    """Id of a node -> its name, where it has one."""
    return {node["id"]: str(node["name"]) for node in graph["nodes"] if node.get("name")}
