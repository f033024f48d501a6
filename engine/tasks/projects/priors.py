"""Priors and free forms: what each parameter is expected to be, and how a parameter with bounds becomes a number without bounds.

The free form of a positive parameter is its logarithm, that of a share between 0 and 1 its logit, that of any other parameter
itself.
Densities are those of the free form, so they include the Jacobian. Arrays are [draws, parameters]. Knows no graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

# Family -> how many numbers it has.
FAMILIES = {"normal": 2, "half_normal": 1, "log_normal": 2, "beta": 2}
# The free form of a beta parameter is looked at within these bounds when its mean and spread are computed.
LOGIT_GRID = np.linspace(-40.0, 40.0, 8001)
# Mean and standard deviation of log|x| for a standard normal x.
LOG_HALF_NORMAL = (-0.6351814227307394, 1.1107207345395915)


@dataclass(frozen=True, slots=True)
class Prior:
    """One prior: a family and its numbers.

    normal       mean, standard deviation; the only family of a parameter without bounds
    half_normal  standard deviation of the normal whose positive half it is
    log_normal   mean and standard deviation of the logarithm
    beta         its two shape numbers
    """

    family: str
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, written: Sequence[Any]) -> "Prior":
        """The prior as an instance has it: ["beta", 2, 2]."""
        return cls(str(written[0]), tuple(float(number) for number in written[1:]))

    @property
    def free_mean(self) -> float:
        return _moments(self)[0]

    @property
    def free_spread(self) -> float:
        """The standard deviation of the free form."""
        return _moments(self)[1]


def log_normal_of_moments(mean: float, deviation: float) -> tuple[float, float]:
    """The two numbers of the log-normal that has this mean and this standard deviation."""
    variance = np.log1p((deviation / mean) ** 2)
    return float(np.log(mean) - variance / 2), float(np.sqrt(variance))


def _moments(prior: Prior) -> tuple[float, float]:
    if prior.family == "half_normal":
        return float(np.log(prior.numbers[0])) + LOG_HALF_NORMAL[0], LOG_HALF_NORMAL[1]
    if prior.family != "beta":
        return prior.numbers[0], prior.numbers[1]
    first, second = prior.numbers
    logs = first * LOGIT_GRID - (first + second) * np.logaddexp(0.0, LOGIT_GRID)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    mean = float(weights @ LOGIT_GRID)
    return mean, float(np.sqrt(weights @ (LOGIT_GRID - mean) ** 2))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), exact where it is small; an overflow of the exponential gives 0, as it should."""
    with np.errstate(over="ignore"):
        shares: Array = np.exp(-x)
    shares += 1.0
    return np.divide(1.0, shares, out=shares)


class Priors:
    """The priors of all parameters of a model, in the order of its columns."""

    def __init__(self, priors: Sequence[Prior]) -> None:
        self.priors = list(priors)
        family = np.array([prior.family for prior in priors])
        first = np.array([prior.numbers[0] for prior in priors])
        second = np.array([prior.numbers[-1] for prior in priors])
        self._logs = np.flatnonzero((family == "half_normal") | (family == "log_normal"))
        self._logits = np.flatnonzero(family == "beta")
        self._quadratic = np.flatnonzero((family == "normal") | (family == "log_normal"))
        self._centre, self._weight = first[self._quadratic], 1.0 / second[self._quadratic] ** 2
        self._half = np.flatnonzero(family == "half_normal")
        self._half_weight = 1.0 / first[self._half] ** 2
        self._alpha, self._alpha_beta = first[self._logits], first[self._logits] + second[self._logits]
        self.means = np.array([prior.free_mean for prior in priors])
        self.spreads = np.array([prior.free_spread for prior in priors])

    def natural(self, free: Array) -> Array:
        """The parameters themselves. Overflows to infinity without a warning; callers treat that as a divergence."""
        natural = free.copy()
        with np.errstate(over="ignore"):
            natural[:, self._logs] = np.exp(free[:, self._logs])
        natural[:, self._logits] = sigmoid(free[:, self._logits])
        return natural

    def free(self, natural: Array) -> Array:
        """The free form of parameters; those at a bound are moved inside by the smallest step that can be told apart."""
        free = natural.astype(np.float64)
        free[:, self._logs] = np.log(np.maximum(natural[:, self._logs], 1e-300))
        shares = np.clip(natural[:, self._logits], 1e-15, 1 - 1e-15)
        free[:, self._logits] = np.log(shares) - np.log1p(-shares)
        return free

    def slopes(self, natural: Array) -> Array:
        """The derivative of each parameter by its free form."""
        slopes = np.ones_like(natural)
        slopes[:, self._logs] = natural[:, self._logs]
        shares = natural[:, self._logits]
        slopes[:, self._logits] = shares * (1.0 - shares)
        return slopes

    def density(self, free: Array, natural: Array) -> tuple[Array, Array]:
        """The log density of the free form, up to a constant, [draws]; and its gradient [draws, parameters]."""
        gradient = np.empty_like(free)
        from_centre = free[:, self._quadratic] - self._centre
        gradient[:, self._quadratic] = pull = -from_centre * self._weight
        logs = 0.5 * (pull * from_centre).sum(axis=1)
        if len(self._half):
            squares = natural[:, self._half] ** 2 * self._half_weight
            gradient[:, self._half] = 1.0 - squares
            logs += (free[:, self._half] - 0.5 * squares).sum(axis=1)
        if len(self._logits):
            logits = free[:, self._logits]
            gradient[:, self._logits] = self._alpha - self._alpha_beta * natural[:, self._logits]
            logs += (self._alpha * logits - self._alpha_beta * np.logaddexp(0.0, logits)).sum(axis=1)
        return logs, gradient
