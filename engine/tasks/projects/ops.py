"""The ops of a graph: for each one its value, and how a gradient of the value becomes gradients of its input and parameters.

An op works on a bundle of G nodes of its kind at once. Series are [G, draws, periods], or [G, 1, periods] where all draws have the
same; parameters are [G, draws]. `forward` gives the value and what `backward` needs of it. The lowering of each op to ONNX is in
lowering.py. Knows no graph, no prior and no date.
"""

from typing import Any, Protocol

import numpy as np

from engine.tasks.projects.priors import sigmoid

Array = np.ndarray
Saved = tuple[Array, ...]

# The smallest adstock that saturation tells from zero, in units of the largest input.
SMALLEST_INPUT = 1e-9
# A share of adstock below this behaves like no adstock, and its logarithm stays finite.
SMALLEST_SHARE = 1e-12


class Op(Protocol):
    """One kind of op with its fixed numbers."""

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        """The value of a bundle, and what `backward` takes as `saved`."""
        ...

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        """The gradient of the input (None where the input is data) and of each parameter."""
        ...


def kernel(share: Array, num_lags: int) -> Array:
    """The weights of geometric adstock, [G, draws, num_lags + 1]; they sum to 1."""
    steps = np.arange(num_lags + 1)
    weights: Array = np.exp(np.log(np.maximum(share, SMALLEST_SHARE))[..., None] * steps)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def lagged(x: Array, num_lags: int) -> Array:
    """The series [..., periods] as it was 0, 1, ... num_lags periods ago, [..., num_lags + 1, periods]; 0 before its start."""
    periods = x.shape[-1]
    rows = np.zeros((*x.shape[:-1], num_lags + 1, periods))
    for lag in range(min(num_lags + 1, periods)):
        rows[..., lag, lag:] = x[..., : periods - lag]
    return rows


def _kernel_backward(gradient: Array, weights: Array, share: Array) -> Array:
    """From the gradient of the weights to that of the share: d w_l / d a = w_l (l - mean lag) / a."""
    steps = np.arange(weights.shape[-1])
    weighted = gradient * weights
    mean_lag = weights @ steps
    slope: Array = (weighted @ steps - mean_lag * weighted.sum(axis=-1)) / np.maximum(share, SMALLEST_SHARE)
    return slope


class AdstockOfData:
    """Geometric adstock of data: one matrix product with the lagged series.

    lagged_data  [G, num_lags + 1, periods], of the periods that are asked for
    """

    def __init__(self, lagged_data: Array) -> None:
        self._lagged = lagged_data
        self._turned = np.ascontiguousarray(lagged_data.transpose(0, 2, 1))

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        weights = kernel(parameters[0], self._lagged.shape[1] - 1)
        return weights @ self._lagged, (weights, parameters[0])

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        weights, share = saved
        return None, (_kernel_backward(gradient @ self._turned, weights, share),)


class Adstock:
    """Geometric adstock of a series that differs from draw to draw."""

    def __init__(self, num_lags: int) -> None:
        self._num_lags = num_lags

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        weights = kernel(parameters[0], self._num_lags)
        return (weights[..., None, :] @ lagged(x, self._num_lags))[..., 0, :], (x, weights, parameters[0])

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        x, weights, share = saved
        of_weights = (lagged(x, self._num_lags) @ gradient[..., None])[..., 0]
        ahead = lagged(gradient[..., ::-1], self._num_lags)[..., ::-1]
        return (weights[..., None, :] @ ahead)[..., 0, :], (_kernel_backward(of_weights, weights, share),)


class Lag:
    """The series n periods ago, 0 before its start."""

    def __init__(self, num_periods: int) -> None:
        self._num_periods = num_periods

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        value = np.zeros_like(x)
        value[..., self._num_periods :] = x[..., : max(x.shape[-1] - self._num_periods, 0)]
        return value, ()

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        back = np.zeros_like(gradient)
        back[..., : max(gradient.shape[-1] - self._num_periods, 0)] = gradient[..., self._num_periods :]
        return back, ()


class Hill:
    """The media term: sign * k * h / mean of h, with h = sigmoid(s (log max(u, 1e-9) - log(e * mean))).

    means  [G, 1], of the input that the half saturation e is told in
    signs  [G, 1], 1 or -1
    mask   [periods], 1 where h counts into its mean, which is the training dates; None where all do
    norms  [G, draws], the mean of h of a fitted model; None to take it from the series
    """

    def __init__(self, means: Array, signs: Array, mask: Array | None = None, norms: Array | None = None) -> None:
        self._log_means = np.log(means)
        self._signs = signs
        self._mask = mask
        self._norms = norms

    def share(self, x: Array, slope: Array, half: Array) -> tuple[Array, Array]:
        """h, and the logarithm of the input by the half saturation; both like x."""
        logs = np.log(np.maximum(x, SMALLEST_INPUT))
        logs = logs - (np.log(half) + self._log_means)[..., None]
        return sigmoid(slope[..., None] * logs), logs

    def norm(self, share: Array) -> Array:
        """The mean of h over the training dates, [G, draws]."""
        mean: Array = share.mean(axis=-1) if self._mask is None else share @ (self._mask / self._mask.sum())
        return mean

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        k, slope, half = parameters
        share, logs = self.share(x, slope, half)
        norm = self.norm(share) if self._norms is None else self._norms
        scale = self._signs * k / norm
        return scale[..., None] * share, (x, share, logs, norm, scale, *parameters)

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        x, share, logs, norm, scale, _, slope, half = saved
        along = (gradient * share).sum(axis=-1)
        of_k = self._signs * along / norm
        pull = (scale * along / norm)[..., None]
        if self._mask is None:
            pull = pull / share.shape[-1]
        else:
            pull = pull * (self._mask / self._mask.sum())
        of_inner = (scale[..., None] * gradient - pull) * share * (1.0 - share)
        of_slope = (of_inner * logs).sum(axis=-1)
        of_half = -slope * of_inner.sum(axis=-1) / half
        of_x = slope[..., None] * of_inner / np.maximum(x, SMALLEST_INPUT) * (x > SMALLEST_INPUT)
        return of_x, (of_k, of_slope, of_half)


class LinearOfData:
    """A weighted sum of columns of data; the bundle is one series.

    columns  [K, periods], each times its sign; b comes as [K, draws]
    """

    def __init__(self, columns: Array) -> None:
        self._columns = columns
        self._turned = np.ascontiguousarray(columns.T)

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        return (parameters[0].T @ self._columns)[None], ()

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        return None, ((gradient[0] @ self._turned).T,)


class Linear:
    """b times a series that differs from draw to draw.

    signs  [G, 1], 1 or -1
    """

    def __init__(self, signs: Array) -> None:
        self._signs = signs

    def forward(self, x: Array, *parameters: Array) -> tuple[Array, Saved]:
        return (self._signs * parameters[0])[..., None] * x, (x, parameters[0])

    def backward(self, gradient: Array, saved: Saved) -> tuple[Array | None, tuple[Array, ...]]:
        x, b = saved
        return (self._signs * b)[..., None] * gradient, (self._signs * (gradient * x).sum(axis=-1),)


# Columns of the calendar


def fourier_columns(day: Array, period_days: float, pairs: int) -> Array:
    """Sine and cosine of the first `pairs` multiples of a period, [2 pairs, periods].

    day  days since the origin, [periods]
    """
    angles = 2 * np.pi * np.arange(1, pairs + 1)[:, None] * np.asarray(day, dtype=np.float64) / period_days
    return np.concatenate([np.sin(angles), np.cos(angles)])


def trend_columns(day: Array, span: float, knots: Any) -> Array:
    """A line and its bends, [1 + knots, periods]: n - 1/2 and max(n - knot, 0), n = 0..1 over the span of days."""
    n = np.asarray(day, dtype=np.float64) / span
    return np.stack([n - 0.5, *(np.maximum(n - knot, 0.0) for knot in knots)])
