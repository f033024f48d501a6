"""Priors: their densities are those of the free forms, Jacobian included."""

import numpy as np
import pytest
from scipy import stats

from engine.tasks.projects.priors import Prior, Priors, log_normal_of_moments

PRIORS = [
    Prior("normal", (0.3, 0.5)),
    Prior("half_normal", (0.15,)),
    Prior("log_normal", (0.2, 0.4)),
    Prior("beta", (2.0, 3.0)),
]
EXACT = [
    stats.norm(0.3, 0.5).logpdf,
    stats.halfnorm(scale=0.15).logpdf,
    stats.lognorm(0.4, scale=np.exp(0.2)).logpdf,
    stats.beta(2.0, 3.0).logpdf,
]


@pytest.mark.parametrize("number", range(len(PRIORS)))
def test_a_density_is_that_of_scipy_with_the_jacobian_of_the_free_form(number: int) -> None:
    priors, free = Priors([PRIORS[number]]), np.linspace(-3, 2, 7)[:, None]
    natural = priors.natural(free)
    logs, _ = priors.density(free, natural)
    expected = EXACT[number](natural[:, 0]) + np.log(priors.slopes(natural)[:, 0])
    assert logs - logs[0] == pytest.approx(expected - expected[0], abs=1e-9)


def test_gradients_and_slopes_are_those_of_finite_differences() -> None:
    priors, step = Priors(PRIORS), 1e-6
    free = np.random.default_rng(0).normal(size=(5, 4))
    _, gradient = priors.density(free, priors.natural(free))
    for column in range(4):
        moved = [free + sign * step * np.eye(4)[column] for sign in (1, -1)]
        ends = [priors.density(m, priors.natural(m))[0] for m in moved]
        assert gradient[:, column] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)
        naturals = [priors.natural(m)[:, column] for m in moved]
        slopes = priors.slopes(priors.natural(free))[:, column]
        assert slopes == pytest.approx((naturals[0] - naturals[1]) / (2 * step), abs=1e-7)


def test_the_free_form_goes_back_to_the_parameter() -> None:
    priors = Priors(PRIORS)
    natural = np.array([[-0.4, 0.2, 1.3, 0.7]])
    assert priors.natural(priors.free(natural)) == pytest.approx(natural)


def test_means_and_spreads_of_the_free_form_are_those_of_draws() -> None:
    random = np.random.default_rng(0)
    draws = np.stack(
        [
            random.normal(0.3, 0.5, 200_000),
            np.log(np.abs(random.normal(0, 0.15, 200_000))),
            random.normal(0.2, 0.4, 200_000),
            stats.logistic.ppf(random.beta(2.0, 3.0, 200_000)),
        ]
    )
    priors = Priors(PRIORS)
    assert priors.means == pytest.approx(draws.mean(axis=1), abs=0.02)
    assert priors.spreads == pytest.approx(draws.std(axis=1), abs=0.02)


def test_a_prior_of_moments_has_these_moments() -> None:
    centre, spread = log_normal_of_moments(1.5, 0.5)
    found = stats.lognorm(spread, scale=np.exp(centre))
    assert (found.mean(), found.std()) == pytest.approx((1.5, 0.5))
