"""The ops: their gradients are those of finite differences, whatever the input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.projects import ops

Array = np.ndarray
STEP = 1e-6
MASK = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])


def series(seed: int, draws: int = 3) -> Array:
    return np.random.default_rng(seed).gamma(2.0, 0.3, (2, draws, 9))


SIGNS = np.array([[1.0], [-1.0]])
OPS = {
    "adstock of data": (lambda: ops.AdstockOfData(ops.lagged(series(5)[:, 0], 4)), 1, False),
    "adstock": (lambda: ops.Adstock(4), 1, True),
    "adstock longer than the series": (lambda: ops.Adstock(20), 1, True),
    "lag": (lambda: ops.Lag(2), 0, True),
    "hill": (lambda: ops.Hill(np.array([[0.4], [0.7]]), SIGNS), 3, True),
    "hill on some dates": (lambda: ops.Hill(np.array([[0.4], [0.7]]), SIGNS, MASK), 3, True),
    "linear": (lambda: ops.Linear(SIGNS), 1, True),
}


@pytest.mark.parametrize("name", OPS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_gradient_of_an_op_is_that_of_finite_differences(name: str, seed: int) -> None:
    make, num_parameters, has_input = OPS[name]
    op, random = make(), np.random.default_rng(seed)
    x = series(seed)
    parameters = [random.uniform(0.1, 0.9, (2, 3)) for _ in range(num_parameters)]
    value, saved = op.forward(x, *parameters)
    pull = random.normal(size=value.shape)
    of_input, of_parameters = op.backward(pull, saved)
    along = [random.normal(size=parameter.shape) for parameter in parameters]
    for number, direction in enumerate(along):
        moved = [[p + sign * STEP * direction if i == number else p for i, p in enumerate(parameters)] for sign in (1, -1)]
        difference = ((op.forward(x, *moved[0])[0] - op.forward(x, *moved[1])[0]) * pull).sum() / (2 * STEP)
        assert (of_parameters[number] * direction).sum() == pytest.approx(difference, rel=1e-5, abs=1e-7)
    if has_input:
        assert of_input is not None
        direction = random.normal(size=x.shape)
        moved_x = [x + sign * STEP * direction for sign in (1, -1)]
        difference = ((op.forward(moved_x[0], *parameters)[0] - op.forward(moved_x[1], *parameters)[0]) * pull).sum() / (2 * STEP)
        assert (of_input * direction).sum() == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_both_ways_of_adstock_give_the_same() -> None:
    x, share = series(1, draws=1), np.random.default_rng(2).uniform(0, 1, (2, 5))
    by_product = ops.AdstockOfData(ops.lagged(x[:, 0], 4)).forward(x, share)[0]
    assert by_product == pytest.approx(ops.Adstock(4).forward(np.repeat(x, 5, axis=1), share)[0], abs=1e-12)


def test_adstock_keeps_the_sum_of_what_it_spreads_and_no_adstock_changes_nothing() -> None:
    x = np.zeros((1, 1, 9))
    x[0, 0, 2] = 5.0
    assert ops.Adstock(4).forward(x, np.array([[0.5]]))[0].sum() == pytest.approx(5.0)
    assert ops.Adstock(4).forward(x, np.array([[0.0]]))[0] == pytest.approx(x, abs=1e-9)


def test_the_mean_of_a_media_term_over_its_dates_is_k() -> None:
    op = ops.Hill(np.array([[0.4], [0.7]]), SIGNS, MASK)
    k = np.array([[0.2, 0.3, 0.4], [0.1, 0.2, 0.3]])
    value, _ = op.forward(series(3), k, np.full((2, 3), 1.5), np.full((2, 3), 0.8))
    assert (value @ MASK) / MASK.sum() == pytest.approx(SIGNS * k)


def test_a_wild_draw_gives_no_number_and_no_warning_of_numpy() -> None:
    hill = ops.Hill(np.array([[0.4]]), np.ones((1, 1)))
    share, _ = hill.share(series(3)[:1], np.full((1, 3), 1e300), np.full((1, 3), 1e-300))
    assert np.isfinite(share).all()
