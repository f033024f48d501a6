"""Hamiltonian Monte Carlo and its diagnostics on posteriors that are known."""

import numpy as np
import pytest

from engine.tasks.projects import convergence
from engine.tasks.projects.hmc import Sampler
from engine.tasks.projects.variational import Gaussian
from tests.engine.tasks.projects.sets import finished

Array = np.ndarray
MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, -0.3], [0.0, -0.3, 0.25]])
PRECISION = np.linalg.inv(COVARIANCE)


def gaussian(place: Array) -> tuple[Array, Array]:
    pull = -(place - MEAN) @ PRECISION
    return 0.5 * (pull * (place - MEAN)).sum(axis=1), pull


def sampler(seed: int = 0, max_gradients: int = 14000) -> Sampler:
    start = Gaussian(np.zeros(3), np.eye(3))
    return Sampler(gaussian, start, np.eye(3), np.random.Generator(np.random.PCG64(seed)), max_gradients)


def test_draws_of_a_gaussian_have_its_mean_and_covariance() -> None:
    chains = finished(sampler().sample(lambda draws: len(draws) >= 800))
    draws = chains.free.reshape(-1, 3)
    assert draws.mean(axis=0) == pytest.approx(MEAN, abs=0.08)
    assert np.cov(draws, rowvar=False) == pytest.approx(COVARIANCE, abs=0.15)
    assert 0.8 < chains.acceptance <= 1
    assert chains.divergent == 0
    assert convergence.r_hat(chains.free).max() < 1.02


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    first, second, third = (finished(sampler(seed).sample(lambda draws: True)).free for seed in (1, 1, 2))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != third.tobytes()


def test_a_run_ends_when_its_gradients_are_spent() -> None:
    chains = finished(sampler(max_gradients=600).sample(lambda draws: False))
    assert 600 <= chains.num_gradients <= 600 + 24
    assert len(chains.free) >= 4


def test_a_cliff_is_a_divergence_and_no_crash() -> None:
    def cliff(place: Array) -> tuple[Array, Array]:
        logs, pull = gaussian(place)
        return np.where(place[:, 0] > 1.5, np.nan, logs), np.where(place[:, :1] > 1.5, np.inf, pull)

    start = Gaussian(np.array([0.0, -2.0, 0.5]), 0.1 * np.eye(3))
    chains = finished(Sampler(cliff, start, np.eye(3), np.random.default_rng(0), 14000).sample(lambda draws: True))
    assert chains.divergent > 0
    assert np.isfinite(chains.free).all()


def test_r_hat_and_sizes_of_independent_draws_are_those_of_as_many_draws() -> None:
    chains = np.random.default_rng(0).normal(size=(500, 8, 4))
    assert convergence.r_hat(chains) == pytest.approx(1.0, abs=0.01)
    assert convergence.bulk_size(chains) == pytest.approx(4000, rel=0.2)
    assert convergence.tail_size(chains) == pytest.approx(4000, rel=0.2)


def test_chains_in_two_places_are_told_by_r_hat_and_slow_ones_by_their_size() -> None:
    random = np.random.default_rng(0)
    apart = random.normal(size=(200, 8, 1)) + np.where(np.arange(8) < 4, 0.0, 3.0)[:, None]
    assert convergence.r_hat(apart)[0] > 1.5
    wider = random.normal(size=(200, 8, 1)) * np.where(np.arange(8) < 4, 1.0, 5.0)[:, None]
    assert convergence.r_hat(wider)[0] > 1.1
    slow = np.empty((2000, 8, 1))
    slow[0] = random.normal(size=(8, 1))
    for i in range(1, 2000):
        slow[i] = 0.9 * slow[i - 1] + np.sqrt(1 - 0.81) * random.normal(size=(8, 1))
    assert convergence.bulk_size(slow)[0] == pytest.approx(16000 / 19, rel=0.3)
