"""Hamiltonian Monte Carlo: eight chains as one array, with one step size and one metric for all of them.

Source: step size by dual averaging, Hoffman and Gelman 2014, section 3.2. Every decision depends on numbers alone, never on time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.variational import Gaussian

Array = np.ndarray
Gradient = Callable[[Array], tuple[Array, Array]]

NUM_CHAINS = 8
WARM_UP_ROUNDS = 400
# Where in the warm-up the metric is estimated again, and how many rounds before it do not count.
METRIC_ROUND, SKIPPED_ROUNDS = 200, 50
SHRINKAGE = 0.1
ROUNDS_AT_A_TIME = 200
# How long a round lasts, in the metric; steps stay in these bounds.
SHORTEST, LONGEST, MAX_STEPS = 0.8, 2.2, 24
TARGET_ACCEPTANCE = 0.9
# Dual averaging: how strongly it pulls, its delay, and how fast old steps are forgotten.
GAMMA, DELAY, KAPPA = 0.05, 10.0, 0.75
FIRST_STEP = 0.5
# A trajectory whose energy rises by more has diverged.
MAX_ENERGY_ERROR = 1000.0


@dataclass(slots=True)
class Chains:
    """The rounds after the warm-up.

    free        [rounds, chains, P]
    acceptance  mean probability of acceptance
    divergent   share of the trajectories that diverged
    """

    free: Array
    acceptance: float
    divergent: float
    num_gradients: int


class _StepSize:
    """The step size that brings acceptance to its target."""

    def __init__(self, first: float) -> None:
        self.restart(first)

    def restart(self, first: float) -> None:
        self.now = self.averaged = first
        self._anchor, self._error, self._count = np.log(10 * first), 0.0, 0
        self._log_averaged = np.log(first)

    def learn(self, acceptance: float) -> None:
        self._count += 1
        weight = 1 / (self._count + DELAY)
        self._error += weight * (TARGET_ACCEPTANCE - acceptance - self._error)
        log_step = self._anchor - np.sqrt(self._count) / GAMMA * self._error
        forget = self._count**-KAPPA
        self._log_averaged += forget * (log_step - self._log_averaged)
        self.now, self.averaged = float(np.exp(log_step)), float(np.exp(self._log_averaged))


class Sampler:
    """Chains that move: `run` makes rounds, `sample` a whole run with its warm-up."""

    def __init__(self, gradient: Gradient, start: Gaussian, metric: Array, random: Generator, max_gradients: int) -> None:
        self._gradient = gradient
        self._random = random
        self._max_gradients = max_gradients
        self._root = np.linalg.cholesky(metric)
        self._place = start.draws(random.standard_normal((NUM_CHAINS, len(start.mean))))
        self._step = _StepSize(FIRST_STEP)
        self.num_gradients = 0
        self._logs, self._pull = self._call(self._place)

    def sample(self, is_enough: Callable[[Array], bool]) -> Stage[Chains]:
        """The warm-up, then rounds until they are enough or the gradients are spent.

        is_enough  asked with all rounds so far, [rounds, chains, P]
        """
        yield from self._warm_up()
        kept: list[Array] = []
        accepted: list[float] = []
        num_divergent = 0
        while not (kept and (self.num_gradients >= self._max_gradients or is_enough(np.stack(kept)))):
            yield Progress("hmc", self.num_gradients, self._max_gradients)
            for _ in range(ROUNDS_AT_A_TIME):
                acceptance, divergent = self._round(self._step.averaged)
                kept.append(self._place)
                accepted.append(float(acceptance.mean()))
                num_divergent += divergent
                if self.num_gradients >= self._max_gradients and len(kept) >= 4:
                    break
        share = num_divergent / (len(kept) * NUM_CHAINS)
        return Chains(np.stack(kept), float(np.mean(accepted)), share, self.num_gradients)

    def _warm_up(self) -> Stage[None]:
        seen: list[Array] = []
        for number in range(WARM_UP_ROUNDS):
            if number % 20 == 0:
                yield Progress("hmc", self.num_gradients, self._max_gradients)
            if number == METRIC_ROUND:
                self._learn_metric(np.concatenate(seen[SKIPPED_ROUNDS:]))
            acceptance, _ = self._round(self._step.now)
            self._step.learn(float(acceptance.mean()))
            if number < METRIC_ROUND:
                seen.append(self._place)
            if self.num_gradients >= self._max_gradients // 2:
                break  # a model this slow keeps half of its gradients for draws that count

    def _learn_metric(self, draws: Array) -> None:
        covariance = np.cov(draws, rowvar=False).reshape(len(draws[0]), -1)
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance))
        try:
            self._root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return  # chains that have not moved give no metric; the first one stays
        self._step.restart(self._step.averaged)

    def _call(self, place: Array) -> tuple[Array, Array]:
        self.num_gradients += 1
        return self._gradient(place)

    def _round(self, step: float) -> tuple[Array, int]:
        """One trajectory of every chain; the probability of acceptance [chains], and how many diverged."""
        count = int(np.clip(round(self._random.uniform(SHORTEST, LONGEST) / step), 1, MAX_STEPS))
        momentum = self._random.standard_normal(self._place.shape)
        threshold = np.log(self._random.uniform(size=NUM_CHAINS))
        with np.errstate(all="ignore"):
            place, logs, pull, moved = self._leap(momentum, step, count)
            gain = logs - self._logs - 0.5 * ((moved**2).sum(axis=1) - (momentum**2).sum(axis=1))
        is_divergent = ~(gain > -MAX_ENERGY_ERROR) | ~np.isfinite(pull).all(axis=1)
        gain = np.where(is_divergent, -np.inf, gain)
        is_accepted = threshold < gain
        self._place = np.where(is_accepted[:, None], place, self._place)
        self._logs = np.where(is_accepted, logs, self._logs)
        self._pull = np.where(is_accepted[:, None], pull, self._pull)
        return np.exp(np.minimum(gain, 0.0)), int(is_divergent.sum())

    def _leap(self, momentum: Array, step: float, count: int) -> tuple[Array, Array, Array, Array]:
        """`count` leapfrog steps: place, log density and gradient there, and momentum."""
        place, pull = self._place, self._pull
        moved = momentum + 0.5 * step * (pull @ self._root)
        for number in range(count):
            place = place + step * (moved @ self._root.T)
            logs, pull = self._call(place)
            moved = moved + (step if number < count - 1 else 0.5 * step) * (pull @ self._root)
        return place, logs, pull, moved
