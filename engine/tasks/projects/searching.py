"""MAP and Laplace: the highest point of the density, and the Gaussian that fits around it. Needs scipy."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.optimize import minimize

from engine.tasks.projects.density import Density
from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.refusals import Refusal

Array = np.ndarray

NUM_STARTS = 8
# Starts of a refit beside the parent's mean.
NUM_FRESH_STARTS = 2
MAX_ITERATIONS = 500
# Starts are drawn from the prior with its spread shrunk by this.
SHRINKING = 0.3
# The step of the central differences, in units of prior spread.
STEP = 1e-4
BLOCK_DRAWS = 32
# What the search takes for the density where it is not a number; far below any that the search passes through.
LOWEST = -1e12


@dataclass(frozen=True, slots=True)
class Mode:
    """The highest point found.

    gap  how much lower the second best one is in log density; None if only one start arrived
    """

    free: Array
    log_density: float
    gap: float | None


def starts(density: Density, random: Generator, parent_mean: Array | None) -> Array:
    """Where the search begins, [starts, P]."""
    count = NUM_STARTS if parent_mean is None else NUM_FRESH_STARTS
    priors = density.priors
    drawn: Array = priors.means + SHRINKING * priors.spreads * random.standard_normal((count, len(priors.means)))
    return drawn if parent_mean is None else np.concatenate([parent_mean[None], drawn])


def climb(density: Density, begins: Array) -> Stage[Mode]:
    """L-BFGS-B from each start; the best end. Refusal `fit_diverged` if none has a finite density."""
    spreads = density.priors.spreads

    def downhill(scaled: Array) -> tuple[float, Array]:
        logs, gradient = density.gradient((scaled * spreads)[None])
        if not np.isfinite(logs[0]) or not np.isfinite(gradient).all():
            return -LOWEST, np.zeros_like(scaled)
        return -float(logs[0]), -gradient[0] * spreads

    found: list[tuple[float, Array]] = []
    for number, begin in enumerate(begins):
        yield Progress("map", number, len(begins))
        result = minimize(downhill, begin / spreads, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS})
        if np.isfinite(result.fun) and result.fun < -LOWEST:
            found.append((-float(result.fun), result.x * spreads))
    if not found:
        raise diverged(density, begins)
    found.sort(key=lambda pair: -pair[0])
    return Mode(found[0][1], found[0][0], found[0][0] - found[1][0] if len(found) > 1 else None)


def diverged(density: Density, points: Array) -> Refusal:
    """The refusal of a fit whose density is NaN or infinite. It names the first parameter whose gradient is, else the steepest."""
    _, gradient = density.gradient(points)
    is_wild = ~np.isfinite(gradient).all(axis=0)
    wild = int(np.argmax(is_wild)) if is_wild.any() else int(np.argmax(np.abs(gradient).max(axis=0)))
    name = density.instance.parameters[wild].name
    return Refusal(
        "fit_diverged", f"The fit found no numbers; look at {name}.", [{"Code": "fit_diverged", "Node": name, "Message": name}]
    )


def laplace(density: Density, mode: Array) -> Stage[Array]:
    """The covariance [P, P] of the Gaussian at the mode: central differences of the gradient, in units of prior spread.

    The prior alone has curvature 1 in these units, so flatter directions are taken for 1.
    """
    spreads, count = density.priors.spreads, len(mode)
    curvature = np.empty((count, count))
    per_block = BLOCK_DRAWS // 2
    for first in range(0, count, per_block):
        yield Progress("laplace", first, count)
        rows = np.arange(first, min(first + per_block, count))
        steps = np.zeros((len(rows), count))
        steps[np.arange(len(rows)), rows] = STEP * spreads[rows]
        _, gradient = density.gradient(np.concatenate([mode + steps, mode - steps]))
        curvature[rows] = -(gradient[: len(rows)] - gradient[len(rows) :]) * spreads / (2 * STEP)
    curvature = 0.5 * (curvature + curvature.T)
    if not np.isfinite(curvature).all():
        raise diverged(density, mode[None])
    values, vectors = np.linalg.eigh(curvature)
    covariance = (vectors / np.maximum(values, 1.0)) @ vectors.T
    return covariance * np.outer(spreads, spreads)
