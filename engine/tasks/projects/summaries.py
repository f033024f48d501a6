"""Summaries of draws: means and quantiles as users see them, and the figures that say how good a fit is."""

import numpy as np

Array = np.ndarray
LEVELS = (0.05, 0.5, 0.95)


def number(value: float) -> float | None:
    """A number for JSON; null for NaN and infinities."""
    return float(value) if np.isfinite(value) else None


def interval(draws: Array) -> dict[str, float | None]:
    """Mean and quantiles of one quantity."""
    low, middle, high = np.quantile(draws, LEVELS)
    return {"Mean": number(draws.mean()), "P5": number(low), "P50": number(middle), "P95": number(high)}


def fit_metrics(observed: Array, mean: Array, predictive: Array) -> dict[str, float | None] | None:
    """How predictions compare with what was observed; None without dates.

    observed, mean  [dates]
    predictive      draws with noise, [draws, dates]
    """
    if not len(observed):
        return None
    error = observed - mean
    total = ((observed - observed.mean()) ** 2).sum()
    is_counted = observed != 0
    low, high = np.quantile(predictive, [0.05, 0.95], axis=0)
    relative = np.abs(error[is_counted] / observed[is_counted])
    return {
        "R2": number(1 - (error**2).sum() / total) if total > 0 else None,
        "MAPE": number(relative.mean()) if is_counted.any() else None,
        "WMAPE": number(np.abs(error).sum() / np.abs(observed).sum()) if is_counted.any() else None,
        "RMSE": number(np.sqrt((error**2).mean())),
        "CRPS": number(_crps(observed, predictive)),
        "Coverage90": number(((observed >= low) & (observed <= high)).mean()),
    }


def _crps(observed: Array, predictive: Array) -> float:
    """Continuous ranked probability score: E|X - y| - E|X - X'| / 2, from sorted draws."""
    ordered = np.sort(predictive, axis=0)
    count = len(ordered)
    weights = (2 * np.arange(1, count + 1) - count - 1)[:, None]
    spread = (weights * ordered).sum(axis=0) * 2 / count**2
    return float((np.abs(predictive - observed).mean(axis=0) - spread / 2).mean())


def durbin_watson(residuals: Array) -> float | None:
    """About 2 where residuals do not follow each other; [dates]."""
    total = (residuals**2).sum()
    return number((np.diff(residuals) ** 2).sum() / total) if total > 0 else None
