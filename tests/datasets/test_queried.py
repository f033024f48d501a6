"""What queries see of datasets: versions and splits by name, nothing of others, and the same after sidecars were lost."""

from pathlib import Path
from typing import Any

import requests

from tests.datasets.asking import ask, delete_rows, home, made, post, put
from tests.serving import Server, serving

Auth = tuple[str, str]
ROWS = [{"text": f"Fact {i}.", "n": i, "v": [float(i == j) for j in range(8)]} for i in range(8)]


def query(server: Server, text: str, auth: Auth | None = None) -> requests.Response:
    return requests.post(f"{server.url}/api/query/v1", json={"query": text}, auth=auth or server.auth, timeout=60)


def numbers(server: Server, source: str, auth: Auth | None = None) -> list[Any]:
    answer = query(server, f'select n from "hub://{source}"', auth)
    assert answer.status_code == 200, answer.text
    return [row["n"] for row in answer.json()["data"]]


def test_an_earlier_version_answers_what_it_held(house: Server) -> None:
    made(put(house, "admin/asked", ROWS[:5]))
    made(post(house, "admin/asked", ROWS[5:]), 200)
    assert delete_rows(house, "admin/asked", "n < 2").json()["version"] == 3
    assert numbers(house, "admin/asked") == [2, 3, 4, 5, 6, 7]
    assert numbers(house, "admin/asked@2") == list(range(8))
    assert numbers(house, "admin/asked@1") == list(range(5))
    assert query(house, 'select n from "hub://admin/asked@9"').json()["code"] == "version_not_found"


def test_a_split_is_a_source_of_its_own(house: Server) -> None:
    made(put(house, "admin/parts", ROWS[:5]))
    made(post(house, "admin/parts", ROWS[5:], "?split=test"), 200)
    assert numbers(house, "admin/parts") == list(range(5))
    assert numbers(house, "admin/parts/test") == [5, 6, 7]
    assert query(house, 'select n from "hub://admin/parts/none"').status_code == 404


def test_a_query_tells_no_more_of_a_foreign_dataset_than_of_a_missing_one(house: Server, eva: Auth, tom: Auth) -> None:
    made(put(house, "eva/kept", ROWS, auth=eva))
    answers = [query(house, f'select nonsense from "hub://eva/{name}"', tom) for name in ("kept", "lost")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text == answers[1].text.replace("lost", "kept")
    assert numbers(house, "eva/kept", eva) == list(range(8))
    assert ask("PATCH", house, "eva/kept", eva, {"visibility": "public"}).status_code == 200
    assert numbers(house, "eva/kept", tom) == list(range(8))


def test_answers_are_the_same_bytes_after_sidecars_were_lost(tmp_path: Path) -> None:
    text = "select text, n, cosine_similarity(v, array[1,2,3,4,5,6,7,8]) + bm25_similarity(text, 'fact 3') as s from \"hub://admin/facts\""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        made(put(server, "admin/facts", ROWS, "?words=text"))
        before = query(server, text + " order by s desc")
        assert before.status_code == 200, before.text
        [segment] = (home(server, "admin/facts") / "segments").iterdir()
    for path in segment.iterdir():
        if path.name != "rows.parquet":
            path.unlink()
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert query(server, text + " order by s desc").content == before.content
