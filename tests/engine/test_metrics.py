"""The numbers of /metrics: a deleted model takes its series with it, and the text is made in short parts."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine import metrics

REPORT = {"stages": {"parse": 0.001, "tokenise": 0.002, "infer": 0.02, "encode": 0.003}, "padding": 0.5, "results": 3, "errors": 1}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    metrics.keep_models(())  # other tests of this process have left series
    yield
    metrics.keep_models(())


def observe(title: str) -> None:
    metrics.observe_frame(title, 4, REPORT)
    metrics.MODEL_LOADS.series(title, "loaded").inc()


def shown() -> str:
    return b"".join(metrics.texts()).decode()


def test_the_lines_of_each_name_stand_together_below_one_head() -> None:
    for title in ("eva/a", "eva/b", "tom/c"):
        observe(title)
    names = [line.split()[2] for line in shown().splitlines() if line.startswith("# TYPE")]
    assert sorted(names) == sorted(set(names))
    families = {family.name: family for family in text_string_to_metric_families(shown())}
    for name in ("sluice_records", "sluice_block_seconds", "sluice_padding_ratio", "sluice_model_loads"):
        assert {sample.labels["model"] for sample in families[name].samples} == {"eva/a", "eva/b", "tom/c"}
    [result] = [one for one in families["sluice_records"].samples if one.labels == {"model": "eva/a", "outcome": "result"}]
    assert result.value == 3


def test_a_metric_without_a_series_has_its_head() -> None:
    for name in ("sluice_records_total counter", "sluice_block_seconds histogram", "sluice_padding_ratio gauge"):
        assert f"# TYPE {name}" in shown()


def test_the_series_of_a_model_that_is_gone_are_gone_and_begin_anew() -> None:
    observe("eva/a")
    observe("eva/b")
    metrics.keep_models({"eva/b"})
    assert "eva/a" not in shown()
    assert "eva/b" in shown()
    observe("eva/a")
    assert 'sluice_records_total{model="eva/a",outcome="result"} 3.0' in shown()


def test_no_part_of_the_text_takes_long_with_300_models() -> None:
    for i in range(300):
        observe(f"eva/model{i}")
    parts_s = []
    started = time.thread_time()  # not the clock, since other programs may share the machine
    for _ in metrics.texts():
        parts_s.append(time.thread_time() - started)
        started = time.thread_time()
    assert len(parts_s) > 4 * 300
    assert max(parts_s) < 0.005
