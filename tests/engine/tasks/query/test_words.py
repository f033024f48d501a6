"""The word index finds words as a few lines of Python do."""

import unicodedata
from collections import Counter
from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.query import words
from engine.tasks.query.segments import ColumnInfo, Segment, Source
from tests.engine.tasks.query.test_vectors import ONE, Running, Stopped

COLUMN = ColumnInfo(3, "text", "string", words=True)


def source_of(folder, *parts):
    """A source with one segment for each list of texts; None in place of a list is a segment of 2 rows without the column."""
    segments = []
    for i, texts in enumerate(parts):
        place = folder / str(i)
        place.mkdir(exist_ok=True)
        if texts is not None:
            words.write(place, COLUMN, pa.chunked_array([texts[:2], texts[2:]], pa.string()))
        segments.append(Segment(place, 2 if texts is None else len(texts)))
    return Source("org/name@1", (COLUMN,), tuple(segments))


def plain_split(text):
    kept = [c if unicodedata.category(c)[0] in "LN" else " " for c in text]
    return "".join(kept).lower().split()


def plain_bm25(texts, query):
    rows = [Counter(plain_split(text or "")) for text in texts]
    lengths = [sum(row.values()) for row in rows]
    average = sum(lengths) / len(rows)
    scores = [0.0] * len(rows)
    for word in plain_split(query):
        df = sum(word in row for row in rows)
        for i, row in enumerate(rows):
            if tf := row[word]:
                scores[i] += (
                    log(1 + (len(rows) - df + 0.5) / (df + 0.5)) * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * lengths[i] / average))
                )
    return scores


FACTS = ["Honey never spoils.", "Bees make honey; bees dance", None, "", "...", "The honey-bee's 3rd dance"]


@pytest.mark.parametrize("query", ["honey", "HONEY bees", "bees bees dance", "3rd", "wasp", "", "?!"])
def test_scores_count_words_over_all_segments_of_the_source(tmp_path, query):
    source = source_of(tmp_path, FACTS[:3], None, [], FACTS[3:])
    texts = [*FACTS[:3], None, None, *FACTS[3:]]
    np.testing.assert_allclose(words.bm25(source, COLUMN, query, control=ONE), plain_bm25(texts, query), rtol=1e-6)


def test_a_row_without_any_of_the_words_has_0_and_a_missing_row_null(tmp_path):
    source = source_of(tmp_path, FACTS)
    found = words.bm25(source, COLUMN, "dance", np.array([5, -1, 2, 5]), control=ONE)
    assert found.dtype == np.float32
    assert found[0] == found[3] > 0
    assert found[2] == 0
    assert np.isnan(found[1])


def test_words_are_runs_of_letters_and_digits_of_any_script():
    assert words.split("Ünï-Code_42, Straße; наука 数学!") == ["ünï", "code", "42", "straße", "наука", "数学"]


def test_groups_of_words_are_merged_into_one_index(tmp_path, monkeypatch):
    texts = [f"w{i % 7} w{i % 11} common w{i}" for i in range(200)]
    whole = source_of(tmp_path, texts)
    (tmp_path / "groups").mkdir()
    monkeypatch.setattr(words, "CUT_ROWS", 3)
    monkeypatch.setattr(words, "SORTED_WORDS", 20)
    monkeypatch.setattr(words, "LEAST_MAPPED_BYTES", 40)
    grouped = source_of(tmp_path / "groups", texts)
    assert [path.name for path in grouped.segments[0].folder.iterdir()] == ["c3.words"]
    files = [(source.segments[0].folder / "c3.words").read_bytes() for source in (whole, grouped)]
    assert files[0] == files[1]
    np.testing.assert_allclose(
        words.bm25(grouped, COLUMN, "w3 w150 common", control=ONE), plain_bm25(texts, "w3 w150 common"), rtol=1e-6
    )


# Letters whose lower case is one letter; Python and Arrow agree on these.
TEXTS = st.text(st.sampled_from("aAbBéÉяЯ9٣ -_.\n😀中\u0301"), max_size=12)


@given(st.lists(st.none() | TEXTS, min_size=1, max_size=12), TEXTS)
@settings(deadline=None)
def test_any_texts_have_the_scores_of_the_plain_formula(tmp_path_factory, texts, query):
    source = source_of(tmp_path_factory.mktemp("words"), texts)
    np.testing.assert_allclose(words.bm25(source, COLUMN, query, control=ONE), plain_bm25(texts, query), rtol=1e-5)


def test_a_query_stops_between_two_words(tmp_path):
    with pytest.raises(Stopped):
        words.bm25(source_of(tmp_path, FACTS), COLUMN, "honey bees dance", control=Running(num_checks=2))
