"""Convergence: r-hat and effective sample sizes of chains, [rounds, chains, quantities]. Needs scipy.

Source: Vehtari et al. 2021: split, rank-normalised r-hat (the larger of bulk and folded), bulk size, and tail size as the smaller
one of the indicators of the 5 % and 95 % quantiles.
"""

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

Array = np.ndarray


def split(chains: Array) -> Array:
    """Each chain as two: its first and its second half, [rounds // 2, 2 chains, quantities]."""
    half = len(chains) // 2
    return np.concatenate([chains[:half], chains[len(chains) - half :]], axis=1)


def normalised(chains: Array) -> Array:
    """The normal scores of the ranks among all draws of a quantity."""
    flat = chains.reshape(-1, chains.shape[-1])
    ranks = rankdata(flat, axis=0)
    scores: Array = ndtri((ranks - 0.375) / (len(flat) + 0.25))
    return scores.reshape(chains.shape)


def r_hat(chains: Array) -> Array:
    """The rank-normalised split r-hat of each quantity; 1 for one that never changes."""
    halves = split(chains)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    ratio: Array = np.maximum(_ratio(normalised(halves)), _ratio(normalised(folded)))
    return ratio


def _ratio(chains: Array) -> Array:
    rounds = len(chains)
    within = chains.var(axis=0, ddof=1).mean(axis=0)
    between = rounds * chains.mean(axis=0).var(axis=0, ddof=1)
    total = (rounds - 1) / rounds * within + between / rounds
    return np.sqrt(np.divide(total, within, out=np.ones_like(total), where=within > 0))


def bulk_size(chains: Array) -> Array:
    return _size(normalised(split(chains)))


def tail_size(chains: Array) -> Array:
    """The smaller effective size of the indicators of the two tails."""
    halves = split(chains)
    low, high = np.quantile(halves, [0.05, 0.95], axis=(0, 1))
    sizes: Array = np.minimum(_size((halves <= low).astype(np.float64)), _size((halves <= high).astype(np.float64)))
    return sizes


def _size(chains: Array) -> Array:
    """Effective size from the autocovariances, cut by Geyer's initial monotone sequence."""
    rounds, num_chains, count = chains.shape
    centred = chains - chains.mean(axis=0)
    length = 1 << (2 * rounds - 1).bit_length()
    spectrum = np.fft.rfft(centred, length, axis=0)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), length, axis=0)[:rounds] / rounds
    within = covariance[0].mean(axis=0) * rounds / (rounds - 1)
    total = within * (rounds - 1) / rounds + chains.mean(axis=0).var(axis=0, ddof=1)
    is_fixed = total <= 0
    correlation = 1 - (within - covariance.mean(axis=1)) / np.where(is_fixed, 1.0, total)
    correlation[0] = 1.0
    pairs = correlation[: rounds - rounds % 2].reshape(-1, 2, count).sum(axis=1)
    is_counted = np.logical_and.accumulate(pairs > 0, axis=0)
    monotone = np.minimum.accumulate(pairs, axis=0)
    time = -1 + 2 * np.where(is_counted, monotone, 0.0).sum(axis=0)
    draws = rounds * num_chains
    size: Array = draws / np.maximum(time, 1 / np.log10(draws))
    return np.where(is_fixed, float(draws), size)
