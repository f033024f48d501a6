"""The task `fit`: an instance and the data of its training dates become a fitted model, its figures and its ONNX graph."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.families import Reply
from engine.tasks.projects import advice, export
from engine.tasks.projects.density import Density
from engine.tasks.projects.effects import Effects, chunks
from engine.tasks.projects.expansion import price_of
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.graphs import gaps, train_mask
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.posterior import Choice, Monitor, Posterior, infer
from engine.tasks.projects.progress import Stage
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.replies import reply
from engine.tasks.projects.searching import diverged
from engine.tasks.projects.sources import Dataset, NoRows
from engine.tasks.projects.training import Training, carried, drift, fitted_of, metrics, response, training_of

Array = np.ndarray

PACKAGES = ("numpy", "scipy", "onnx")
# The child of the seed that draws the noise of predictions.
NOISE_CHILD = 5


class Fitting:
    """One fit: what it was asked, and what it reads."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._folder = Path(header["folder"])
        self._parent = Fitted.read(Path(header["parent"])) if header.get("parent") else None
        self._instance = self._parent.instance if self._parent else Instance.of(header["instance"])
        self._dataset = Dataset(header["files"], header["combination"])
        self._is_train = train_mask(self._dataset, header["train_dates"], header["eval_dates"])
        self._is_eval = self._dataset.mask(header["eval_dates"])
        self._readings, self._warnings = Readings.of(self._instance, self._dataset)
        self._warnings = gaps(self._dataset) + self._warnings

    def run(self) -> Stage[Reply]:
        """Fit, look at the training dates, export. Refusal `fit_diverged`."""
        constants = self._readings.constants(self._instance)
        density = Density(self._instance, constants, self._readings.scaled(self._instance), self._is_train)
        monitor = Monitor(density, constants, self._is_train)
        parent = None if self._parent is None else density.priors.free(carried(self._parent, self._readings, self._is_train))
        posterior = yield from infer(density, monitor, self._choice(), parent)
        if not np.isfinite(posterior.draws).all():
            raise diverged(density, posterior.free)
        fitted = fitted_of(self._instance, posterior.draws, self._readings, self._is_train, self._told())
        parts = [Effects(part, self._readings) for part in chunks(fitted)]
        answer = self._figures(density, posterior, fitted, training_of(parts, self._is_train))
        curves = yield from response(fitted, self._dataset, parts, self._is_train)
        fitted.write(self._folder)
        told = {"converged": posterior.is_converged, "window": self._export(fitted, answer), "warnings": answer.pop("Warnings")}
        return reply(
            {"figures": answer, "response": curves}, **told, frequency=fitted.frequency, target_metric=fitted.target_metric
        )

    def _choice(self) -> Choice:
        header = self._header
        return Choice(
            header["inference"],
            header["epochs"],
            header["learning_rate"],
            header["samples"],
            header["seed"],
            header["max_gradients"],
        )

    def _told(self) -> dict[str, Any]:
        dates = sorted(self._header["train_dates"])
        return {"combination": self._header["combination"], "frequency": self._dataset.frequency, "train_dates": dates}

    def _figures(self, density: Density, posterior: Posterior, fitted: Fitted, found: Training) -> dict[str, Any]:
        """The figures of the answer, with its warnings."""
        observed = self._readings.observed[self._instance.target.id]
        noise = Generator(PCG64(SeedSequence(self._header["seed"]).spawn(NOISE_CHILD + 1)[NOISE_CHILD]))
        answer: dict[str, Any] = {
            "Metrics": metrics(fitted, found, observed, (self._is_train, self._is_eval), noise),
            "Diagnostics": advice.diagnostics(density, posterior, found, observed, self._is_train),
            "Drift": self._drift(fitted),
            "Scales": self._scales(),
        }
        answer["Warnings"] = self._advice(density, posterior, fitted, found, answer)
        return answer

    def _advice(
        self, density: Density, posterior: Posterior, fitted: Fitted, found: Training, answer: dict[str, Any]
    ) -> list[dict[str, Any]]:
        warnings = self._warnings + advice.of_posterior(density, posterior, self._header["inference"], int(self._is_train.sum()))
        warnings += advice.of_inputs(self._instance, self._readings, self._is_train)
        warnings += advice.of_training(fitted, self._dataset, found, answer, self._prices(), self._is_train)
        warnings += advice.extrapolation(fitted, self._readings, self._is_eval)
        return warnings + advice.of_drift(answer["Drift"] or [])

    def _prices(self) -> Array | None:
        try:
            return price_of(self._dataset, self._instance.target.params["source"])
        except NoRows:
            return None

    def _drift(self, fitted: Fitted) -> list[dict[str, Any]] | None:
        """None for a build, and for a refit without a date in common."""
        if self._parent is None:
            return None
        common = sorted(set(self._parent.train_dates) & set(self._header["train_dates"]))
        return drift(fitted, self._parent, self._readings, self._dataset.mask(common)) if common else None

    def _scales(self) -> dict[str, float]:
        scales = [(node.group, node.params["scale"]) for node in self._instance.nodes if "scale" in node.params]
        return dict(reversed(scales))

    def _export(self, fitted: Fitted, answer: dict[str, Any]) -> int:
        """Write the graph; how many periods it takes."""
        header = self._header
        told = {
            "dataset": header["dataset"],
            "combination": codec.dumps(header["combination"]).decode(),
            "frequency": fitted.frequency,
            "scales": codec.dumps(answer["Scales"]).decode(),
            "nodes": codec.dumps(export.labels(fitted.instance)).decode(),
            "W": str(fitted.instance.memory + 1),
            "S": str(header["export_draws"]),
            "seed": str(header["seed"]),
            "packages": codec.dumps({name: version(name) for name in PACKAGES}).decode(),
            "metrics": codec.dumps(answer["Metrics"]).decode(),
            "first_train_date": fitted.train_dates[0],
        }
        exported = export.export(
            fitted,
            self._readings,
            num_draws=header["export_draws"],
            seed=header["seed"],
            told=told,
            title=(header["owner"], header["name"]),
        )
        export.write(exported, self._folder)
        return exported.window
