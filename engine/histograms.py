"""Histograms of /metrics that one thread counts: that of the event loop.

Those of prometheus_client take a lock three times for each number, which costs a twentieth of what the server does for a request
that is answered from memory (DECISIONS.md). prometheus_client still makes what /metrics shows. Knows nothing of what is counted.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Series:
    """The numbers of a histogram with certain values of its labels.

    bounds  the upper bounds of the buckets, in rising order; a bucket has the numbers up to its bound, the last one all others
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, number: float) -> None:
        self._counts[bisect_left(self._bounds, number)] += 1
        self._sum += number

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what has been counted to the family, whose buckets each have the numbers of those before them as well."""
        buckets, below = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            buckets.append((floatToGoString(bound), below))
        family.add_metric(labels, buckets, self._sum)


class Histogram:
    """A histogram with the interface of prometheus_client's, as far as it is used here.

    label_names  none for a histogram with one series, which is there from the start
    registry     shows it, unless it is None
    """

    def __init__(
        self,
        name: str,
        text: str,
        label_names: Iterable[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry | None,
    ) -> None:
        self.label_names = tuple(label_names)
        self._name, self._text, self._bounds = name, text, tuple(buckets)
        self._series: dict[tuple[str, ...], Series] = {} if self.label_names else {(): Series(self._bounds)}
        if registry is not None:
            registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series with these values of the labels. ValueError for more or fewer values than there are labels."""
        found = self._series.get(values)
        if found is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self._name} has the labels {self.label_names}")
            found = self._series[values] = Series(self._bounds)
        return found

    def observe(self, number: float) -> None:
        """Count a number of a histogram without labels."""
        self._series[()].observe(number)

    def describe(self) -> Iterable[Metric]:
        """What the metric is, without its series."""
        return [HistogramMetricFamily(self._name, self._text, labels=self.label_names)]

    def collect(self) -> Iterable[Metric]:
        """The metric with its series."""
        family = HistogramMetricFamily(self._name, self._text, labels=self.label_names)
        for values, series in self._series.items():
            series.show(family, values)
        return [family]
