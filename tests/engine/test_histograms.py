"""Histograms count as those of prometheus_client do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Theirs

from engine.histograms import Histogram

BOUNDS = (0.001, 0.5, 1.0, 60.0)
NUMBERS = st.sampled_from(BOUNDS) | st.floats(0, 100)


def shown(registry: CollectorRegistry) -> list[bytes]:
    return [line for line in generate_latest(registry).splitlines() if b"_created" not in line]


@given(st.lists(st.tuples(st.sampled_from(["fast", "slow"]), NUMBERS)))
def test_what_is_shown_is_what_prometheus_client_shows(numbers: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("some_seconds", "Seconds.", ["lane"], buckets=BOUNDS, registry=ours)
    other = Theirs("some_seconds", "Seconds.", ["lane"], buckets=BOUNDS, registry=theirs)
    for lane, number in numbers:
        mine.labels(lane).observe(number)
        other.labels(lane).observe(number)
    assert shown(ours) == shown(theirs)


def test_a_histogram_without_labels_is_there_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("some_records", "Records.", buckets=BOUNDS, registry=ours)
    other = Theirs("some_records", "Records.", buckets=BOUNDS, registry=theirs)
    assert shown(ours) == shown(theirs)
    mine.observe(0.5)
    other.observe(0.5)
    assert shown(ours) == shown(theirs)


def test_a_series_has_a_value_for_each_label() -> None:
    with pytest.raises(ValueError, match="lane"):
        Histogram("some_seconds", "Seconds.", ["lane"], buckets=BOUNDS, registry=None).labels("fast", "slow")
