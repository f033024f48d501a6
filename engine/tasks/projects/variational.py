"""Full-rank variational inference from the Laplace Gaussian: theta = m0 + C0 (mu + A eps), with A lower triangular.

Source: Kucukelbir et al. 2017, with the step of Adam. Knows no graph.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from engine.tasks.projects.density import Density
from engine.tasks.projects.progress import Progress, Stage

Array = np.ndarray

ADAM_MEAN, ADAM_SQUARE, ADAM_FLOOR = 0.9, 0.999, 1e-8
# The iterates of the last share of the steps are averaged.
AVERAGED_SHARE = 0.3
NUM_COMPARED_DRAWS = 256
MAX_KEPT_ELBOS = 50


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A Gaussian of free parameters: mean [P] and lower triangular root [P, P] of its covariance."""

    mean: Array
    root: Array

    def draws(self, eps: Array) -> Array:
        """Standard normal draws [draws, P] as draws of this one."""
        drawn: Array = self.mean + eps @ self.root.T
        return drawn

    @property
    def covariance(self) -> Array:
        covariance: Array = self.root @ self.root.T
        return covariance


@dataclass(frozen=True, slots=True)
class Variational:
    """What came of it. is_improved is False if the start was better and is kept."""

    gaussian: Gaussian
    elbos: list[float]
    is_improved: bool


class _Adam:
    """Steps uphill."""

    def __init__(self, size: int, rate: float) -> None:
        self._mean, self._square = np.zeros(size), np.zeros(size)
        self._rate, self._count = rate, 0

    def step(self, slope: Array) -> Array:
        self._count += 1
        self._mean += (1 - ADAM_MEAN) * (slope - self._mean)
        self._square += (1 - ADAM_SQUARE) * (slope**2 - self._square)
        mean = self._mean / (1 - ADAM_MEAN**self._count)
        square = self._square / (1 - ADAM_SQUARE**self._count)
        step: Array = self._rate * mean / (np.sqrt(square) + ADAM_FLOOR)
        return step


class _Family:
    """The numbers that are learnt, as one vector: mu, then the lower triangle of A with the logarithms of its diagonal."""

    def __init__(self, start: Gaussian) -> None:
        self._start = start
        self.count = len(start.mean)
        self._lower = np.tril_indices(self.count)
        self._diagonal = self.count + np.flatnonzero(self._lower[0] == self._lower[1])

    def gaussian(self, vector: Array) -> Gaussian:
        return Gaussian(self._start.mean + self._start.root @ vector[: self.count], self._start.root @ self._factor(vector))

    def _factor(self, vector: Array) -> Array:
        """A [P, P]."""
        values = vector.copy()
        values[self._diagonal] = np.exp(values[self._diagonal])
        factor = np.zeros((self.count, self.count))
        factor[self._lower] = values[self.count :]
        return factor

    def slope(self, vector: Array, pull: Array, eps: Array) -> Array:
        """The gradient of the ELBO by the vector.

        pull  gradient of the log density by the free parameters, [samples, P]
        """
        inner = pull @ self._start.root
        slope = np.empty_like(vector)
        slope[: self.count] = inner.mean(axis=0)
        slope[self.count :] = (inner.T @ eps / len(eps))[self._lower]
        slope[self._diagonal] = slope[self._diagonal] * np.exp(vector[self._diagonal]) + 1.0
        return slope

    @property
    def size(self) -> int:
        return self.count + len(self._lower[0])


def elbo(density: Density, gaussian: Gaussian, eps: Array) -> float:
    """The evidence lower bound on fixed draws, up to a constant; -inf if a draw has no density."""
    logs, _ = density.gradient(gaussian.draws(eps))
    value = float(logs.mean() + np.log(np.diag(gaussian.root)).sum())
    return value if np.isfinite(value) else -np.inf


def improve(density: Density, start: Gaussian, random: Generator, *, epochs: int, rate: float, samples: int) -> Stage[Variational]:
    """`epochs` steps of Adam; the average of the last iterates, or the start if that has the higher ELBO."""
    family = _Family(start)
    vector, adam = np.zeros(family.size), _Adam(family.size, rate)
    total, num_averaged = np.zeros(family.size), max(1, int(AVERAGED_SHARE * epochs))
    elbos: list[float] = []
    for epoch in range(epochs):
        eps = random.standard_normal((samples, family.count))
        gaussian = family.gaussian(vector)
        logs, pull = density.gradient(gaussian.draws(eps))
        if epoch * MAX_KEPT_ELBOS // epochs >= len(elbos):
            elbos.append(float(logs.mean() + np.log(np.diag(gaussian.root)).sum()))
            yield Progress("vi", epoch, epochs, elbos[-1] if np.isfinite(elbos[-1]) else None)
        if np.isfinite(pull).all():
            vector = vector + adam.step(family.slope(vector, pull, eps))
        if epoch >= epochs - num_averaged:
            total += vector
    eps = random.standard_normal((NUM_COMPARED_DRAWS, family.count))
    ended = family.gaussian(total / num_averaged) if epochs else start
    is_improved = elbo(density, ended, eps) >= elbo(density, start, eps)
    return Variational(ended if is_improved else start, elbos, is_improved)
