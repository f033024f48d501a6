"""Advice: the diagnostics of a fit, and the warnings that say what not to trust in it."""

from typing import Any

import numpy as np

from engine.tasks.projects.density import Density
from engine.tasks.projects.expansion import spend_of
from engine.tasks.projects.fitted import Fitted, group_nodes, kind_of
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.posterior import ENOUGH_R_HAT, Posterior
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.refusals import warning
from engine.tasks.projects.sources import Dataset
from engine.tasks.projects.summaries import durbin_watson, number
from engine.tasks.projects.training import Training

Array = np.ndarray
Warnings = list[dict[str, Any]]

FEW_PERIODS, FEW_PER_PARAMETER = 52, 3
HIGH_CORRELATION, NOT_SEPARABLE = 0.9, -0.7
PRIOR_SHARE = 0.9
NEGATIVE_BASELINE = 0.2
PLAUSIBLE_ROI = (0.05, 20.0)
PLAIN_DURBIN_WATSON = (1.0, 3.0)
LOW_COVERAGE = 0.7
BEYOND_LARGEST = 1.2
LARGE_DRIFT = 0.25
FEW_DRAWS = 100


def diagnostics(density: Density, posterior: Posterior, found: Training, observed: Array, is_train: Array) -> dict[str, Any]:
    """`Diagnostics`."""
    residuals = (observed - found.prediction.mean(axis=0))[is_train]
    return {
        "Converged": posterior.is_converged,
        "RHatMax": posterior.monitored_r_hat,
        "EssMin": posterior.monitored_size,
        "Divergences": posterior.divergent,
        "Acceptance": posterior.acceptance,
        "Elbo": [value for value in posterior.elbos if np.isfinite(value)],
        "MapSpread": posterior.gap,
        "DurbinWatson": durbin_watson(residuals),
        "NegativeBaselineProbability": float((found.baseline[:, is_train] < 0).mean()),
        "Parameters": _parameters(density, posterior),
    }


def _parameters(density: Density, posterior: Posterior) -> list[dict[str, Any]]:
    """One row a parameter. PriorShift: how far its mean moved from the prior's, in units of prior spread, both of the free form."""
    draws = posterior.draws
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    shift = (posterior.free.mean(axis=0) - density.priors.means) / density.priors.spreads
    return [
        {
            "Name": parameter.name,
            "Mean": number(draws[:, i].mean()),
            "Sd": number(draws[:, i].std()),
            "P5": number(low[i]),
            "P95": number(high[i]),
            "RHat": None if posterior.r_hat is None else number(posterior.r_hat[i]),
            "Ess": None if posterior.size is None else number(posterior.size[i]),
            "PriorShift": number(abs(shift[i])),
        }
        for i, parameter in enumerate(density.instance.parameters)
    ]


def of_posterior(density: Density, posterior: Posterior, inference: str, num_dates: int) -> Warnings:
    """What the inference itself warns of."""
    found: Warnings = []
    count = len(density.instance.parameters)
    if posterior.monitored_r_hat is not None and posterior.monitored_r_hat > ENOUGH_R_HAT:
        found.append(warning("rhat_high", f"The chains differ: r-hat is {posterior.monitored_r_hat:.3f}."))
    if not posterior.is_converged:
        found.append(warning("not_converged", "The fit did not converge; its intervals cannot be trusted."))
    if not posterior.is_improved:
        found.append(warning("vi_not_improved", "The variational steps did not improve on the start, which was kept."))
    if inference != "hmc":
        found.append(warning("intervals_approximate", "Without hmc the intervals are too narrow."))
    if num_dates < max(FEW_PERIODS, FEW_PER_PARAMETER * count):
        found.append(warning("few_periods", f"{num_dates} training dates are few for {count} parameters."))
    return found + _prior_dominated(density, posterior)


def _prior_dominated(density: Density, posterior: Posterior) -> Warnings:
    """A warning for each node of which the data says little."""
    by_group: dict[str, list[str]] = {}
    shares = posterior.free.std(axis=0) / density.priors.spreads
    for parameter, share in zip(density.instance.parameters, shares, strict=True):
        if share > PRIOR_SHARE:
            by_group.setdefault(density.instance.by_id[parameter.node].group, []).append(parameter.name)
    return [
        warning("prior_dominated", f"The data says little about {', '.join(names)}: the prior decides.", group)
        for group, names in by_group.items()
    ]


def of_inputs(instance: Instance, readings: Readings, is_train: Array) -> Warnings:
    """Inputs that move together."""
    groups = group_nodes(instance)
    names = [group for group, nodes in groups.items() if nodes[0].id in readings.raw]
    if len(names) < 2:
        return []
    series = np.stack([readings.raw[groups[name][0].id][is_train] for name in names])
    changing = series.std(axis=1) > 0
    names, series = [name for name, changes in zip(names, changing, strict=True) if changes], series[changing]
    correlation = np.atleast_2d(np.corrcoef(series))
    pairs = zip(*np.nonzero(np.triu(np.abs(correlation) > HIGH_CORRELATION, 1)), strict=True)
    return [
        warning("high_correlation", f"{names[i]} and {names[j]} move together (r = {correlation[i, j]:.2f}).", names[i])
        for i, j in pairs
    ]


def of_training(
    fitted: Fitted, dataset: Dataset, found: Training, told: dict[str, Any], prices: Array | None, is_train: Array
) -> Warnings:
    """What the totals, the baseline and the residuals warn of; `told` has Metrics and Diagnostics."""
    warnings = _not_separable(found)
    probability = told["Diagnostics"]["NegativeBaselineProbability"]
    if probability > NEGATIVE_BASELINE:
        warnings.append(warning("negative_baseline", f"The baseline is below 0 with probability {probability:.2f}."))
    if prices is not None:
        warnings += _implausible(fitted, dataset, found, float(prices[is_train].mean()), is_train)
    ratio = told["Diagnostics"]["DurbinWatson"]
    if ratio is not None and not PLAIN_DURBIN_WATSON[0] <= ratio <= PLAIN_DURBIN_WATSON[1]:
        warnings.append(warning("residual_autocorrelation", f"Residuals follow each other: Durbin-Watson is {ratio:.2f}."))
    evaluation = told["Metrics"]["Eval"]
    if evaluation is not None and evaluation["Coverage90"] < LOW_COVERAGE:
        warnings.append(
            warning("low_coverage", f"Only {evaluation['Coverage90']:.0%} of the held-out dates are in their intervals.")
        )
    return warnings


def _not_separable(found: Training) -> Warnings:
    """Pairs of groups of which the data tells the sum, but not which of the two it was."""
    names = [name for name, draws in found.totals.items() if draws.std() > 1e-12 * np.abs(draws).max(initial=0.0)]
    if len(names) < 2:
        return []
    correlation = np.corrcoef(np.stack([found.totals[name] for name in names]))
    warnings = []
    for i, j in zip(*np.nonzero(np.triu(correlation < NOT_SEPARABLE, 1)), strict=True):
        one, other = found.totals[names[i]], found.totals[names[j]]
        ranges = [f"{low:.4g} to {high:.4g}" for low, high in (np.quantile(x, [0.05, 0.95]) for x in (one, other, one + other))]
        message = f"{names[i]} ({ranges[0]}) and {names[j]} ({ranges[1]}) cannot be told apart; together they are {ranges[2]}."
        warnings.append(warning("not_separable", message, names[i]))
    return warnings


def _implausible(fitted: Fitted, dataset: Dataset, found: Training, mean_price: float, is_train: Array) -> Warnings:
    warnings = []
    for group, nodes in group_nodes(fitted.instance).items():
        if kind_of(fitted.instance, nodes[0]) != "media":
            continue
        spend = spend_of(dataset, {"source": nodes[0].params["source"]})
        total = 0.0 if spend is None else float(spend[is_train].sum())
        roi = found.totals[group].mean() * mean_price / total if total > 0 else None
        if roi is not None and not PLAUSIBLE_ROI[0] <= roi <= PLAUSIBLE_ROI[1]:
            warnings.append(warning("roi_implausible", f"{group} returns {roi:.3g} for 1 of spend.", group))
    return warnings


def extrapolation(fitted: Fitted, readings: Readings, dates: Array) -> Warnings:
    """Inputs that are larger on some dates, bool [periods], than any in training."""
    nodes = [
        (group, node) for group, members in group_nodes(fitted.instance).items() for node in members if node.id in readings.raw
    ]
    beyond = {
        group: None
        for group, node in nodes
        if dates.any() and readings.raw[node.id][dates].max() > BEYOND_LARGEST * fitted.largest[node.id] > 0
    }
    return [warning("extrapolation", f"{group} is larger than it ever was in training.", group) for group in beyond]


def of_drift(rows: list[dict[str, Any]]) -> Warnings:
    return [
        warning("drift", f"The effect of {row['Node']} changed by {row['RelativeChange']:.0%} against the parent.", row["Node"])
        for row in rows
        if row["RelativeChange"] is not None and abs(row["RelativeChange"]) > LARGE_DRIFT
    ]
