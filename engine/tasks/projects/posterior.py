"""The posterior of one fit: MAP, Laplace, VI and HMC in their order, with the figures that say whether they converged.

Needs scipy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from engine.tasks.projects import convergence, hmc, searching, variational
from engine.tasks.projects.density import Density
from engine.tasks.projects.progress import Stage
from engine.tasks.projects.variational import Gaussian

Array = np.ndarray

NUM_DRAWS = 400
# Sampling goes on until r-hat is below the first and both effective sizes have reached the second.
ENOUGH_R_HAT, ENOUGH_SIZE = 1.05, 400.0
# A fit with a larger r-hat, or a larger share of divergent trajectories, did not converge.
CONVERGED_R_HAT, CONVERGED_DIVERGENCES = 1.1, 0.02


@dataclass(frozen=True, slots=True)
class Choice:
    """How to fit: inference is `hmc`, `vi` or `map`."""

    inference: str
    epochs: int
    learning_rate: float
    samples: int
    seed: int
    max_gradients: int


@dataclass(slots=True)
class Posterior:
    """What came of a fit.

    draws  natural parameters [NUM_DRAWS, P]; free, their free form
    r_hat, size  of each parameter, [P]; None without HMC
    """

    draws: Array
    free: Array
    elbos: list[float]
    is_improved: bool
    gap: float | None
    num_gradients: int
    r_hat: Array | None = None
    size: Array | None = None
    monitored_r_hat: float | None = None
    monitored_size: float | None = None
    divergent: float | None = None
    acceptance: float | None = None

    @property
    def is_converged(self) -> bool:
        """Only HMC can tell that it did not converge."""
        if self.monitored_r_hat is None or self.divergent is None:
            return True
        return self.monitored_r_hat < CONVERGED_R_HAT and self.divergent < CONVERGED_DIVERGENCES


class Monitor:
    """The quantities by which convergence is judged: k, b and sigma, and the totals of terms with several columns.

    The total of a media term over the training dates is k times their number, and that of a linear term b times a number.
    """

    def __init__(self, density: Density, constants: dict[str, Array], is_train: Array) -> None:
        self._density = density
        instance = density.instance
        self._columns = [i for i, parameter in enumerate(instance.parameters) if parameter.key in ("k", "b", "sigma")]
        self._totals: list[tuple[list[int], Array]] = []
        for node in instance.nodes:
            columns = instance.columns.get((node.id, "b"), [])
            if len(columns) > 1:
                sums = constants[instance.parents(node.id)[0]][:, is_train].sum(axis=1)
                self._totals.append((columns, sums))

    def quantities(self, free: Array) -> Array:
        """[rounds, chains, P] -> [rounds, chains, quantities]."""
        natural = self._density.priors.natural(free.reshape(-1, free.shape[-1]))
        totals = [natural[:, columns] @ sums for columns, sums in self._totals]
        return np.column_stack([natural[:, self._columns], *totals]).reshape(*free.shape[:2], -1)


def infer(density: Density, monitor: Monitor, choice: Choice, parent: Array | None = None) -> Stage[Posterior]:
    """The posterior. Refusal `fit_diverged`.

    parent  free draws of the model that this one refits, [draws, P]: where the search and the metric start from
    """
    randoms = [Generator(PCG64(child)) for child in SeedSequence(choice.seed).spawn(4)]
    begins = searching.starts(density, randoms[0], None if parent is None else parent.mean(axis=0))
    mode = yield from searching.climb(density, begins)
    covariance = yield from searching.laplace(density, mode.free)
    start = Gaussian(mode.free, np.linalg.cholesky(covariance))
    tuned = variational.Variational(start, [], True)
    if choice.epochs and choice.inference != "map":
        tuned = yield from variational.improve(
            density, start, randoms[1], epochs=choice.epochs, rate=choice.learning_rate, samples=choice.samples
        )
    if choice.inference != "hmc":
        free = tuned.gaussian.draws(randoms[2].standard_normal((NUM_DRAWS, len(mode.free))))
        return Posterior(density.priors.natural(free), free, tuned.elbos, tuned.is_improved, mode.gap, density.num_gradients)
    metrics = [covariance, tuned.gaussian.covariance, *([] if parent is None else [np.cov(parent, rowvar=False)])]
    sampler = hmc.Sampler(density.gradient, tuned.gaussian, np.mean(metrics, axis=0), randoms[3], choice.max_gradients)
    chains = yield from sampler.sample(lambda free: _is_enough(monitor.quantities(free)))
    return _of_chains(density, monitor, chains, tuned, mode.gap)


def _is_enough(quantities: Array) -> bool:
    if float(convergence.r_hat(quantities).max()) >= ENOUGH_R_HAT:
        return False
    return float(min(convergence.bulk_size(quantities).min(), convergence.tail_size(quantities).min())) >= ENOUGH_SIZE


def _of_chains(
    density: Density, monitor: Monitor, chains: hmc.Chains, tuned: variational.Variational, gap: float | None
) -> Posterior:
    free = thinned(chains.free)
    quantities = monitor.quantities(chains.free)
    size = np.minimum(convergence.bulk_size(chains.free), convergence.tail_size(chains.free))
    monitored = min(convergence.bulk_size(quantities).min(), convergence.tail_size(quantities).min())
    return Posterior(
        density.priors.natural(free),
        free,
        tuned.elbos,
        tuned.is_improved,
        gap,
        density.num_gradients,
        convergence.r_hat(chains.free),
        size,
        float(convergence.r_hat(quantities).max()),
        float(monitored),
        chains.divergent,
        chains.acceptance,
    )


def thinned(free: Array) -> Array:
    """NUM_DRAWS draws of chains [rounds, chains, P], the same number of each chain, evenly spaced; one chain after the other."""
    rounds, num_chains, count = free.shape
    per_chain = NUM_DRAWS // num_chains
    return free[np.arange(per_chain) * rounds // per_chain].transpose(1, 0, 2).reshape(-1, count)
