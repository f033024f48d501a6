"""The official client of the Open Inference Protocol, tritonclient[http], works as it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from tests.embeddings.asking import MINILM, ask, assert_same, needs, vectors
from tests.serving import Server
from tests.tensors.asking import IRIS, ROWS

pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")

from tritonclient import http as triton
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

X = np.array(ROWS, np.float32)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as opened:
        opened.register_plugin(BasicAuth(*server.auth))
        yield opened


def given(name: str, array: np.ndarray, datatype: str, *, is_binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


def singles(server: Server, model: str, records: list[dict[str, Any]]) -> list[Any]:
    """The results of single predictions, to compare with."""
    return [requests.post(server.model(model), json=one, auth=server.auth, timeout=30).json()["result"] for one in records]


def test_the_server_and_its_models_are_described(client: Any) -> None:
    assert (client.is_server_live(), client.is_server_ready()) == (True, True)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert [
        client.is_model_ready(name, number) for name, number in ((IRIS, ""), (IRIS, "1"), (IRIS, "9"), ("sluice/none", ""))
    ] == [
        True,
        True,
        False,
        False,
    ]
    told = client.get_model_metadata(IRIS)
    assert (told["name"], told["versions"], told["inputs"]) == (IRIS, ["1"], [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}])
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("probabilities", "FP32", [-1, 3]),
    ]


@pytest.mark.parametrize("is_binary", [True, False])
def test_tensors_give_what_single_predictions_give(server: Server, client: Any, is_binary: bool) -> None:
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    expected = singles(server, IRIS, [dict(zip(names, row, strict=True)) for row in ROWS])
    wanted = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("probabilities", "label")]
    answer = client.infer(IRIS, [given("X", X, "FP32", is_binary=is_binary)], outputs=wanted, request_id="a-1", model_version="1")
    told = answer.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("a-1", IRIS, "1")
    assert [one["name"] for one in told["outputs"]] == ["probabilities", "label"]
    labels = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label").tolist()]
    assert labels == [one["label"] for one in expected]
    assert np.allclose(answer.as_numpy("probabilities"), [one["probabilities"] for one in expected], atol=1e-6)


def test_without_wanted_outputs_all_come_as_raw_bytes(client: Any) -> None:
    answer = client.infer(IRIS, [given("X", X, "FP32")])
    assert all("binary_data_size" in one["parameters"] for one in answer.get_response()["outputs"])
    assert answer.as_numpy("label").tolist() == [b"setosa", b"virginica", b"versicolor"]


def test_strings_and_compressed_requests(client: Any) -> None:
    names = np.array([["Zoë 日本"], [""], ["b" * 1000]], object)
    for algorithm in (None, "gzip", "deflate"):
        answer = client.infer("brandon/HelloWorld", [given("name", names, "BYTES")], request_compression_algorithm=algorithm)
        found = [text.decode() for text in answer.as_numpy("greeting").tolist()]
        assert found == [f"Hello {name}" for name in names[:, 0]]


def test_fields_of_records_may_come_as_columns_and_one_may_be_absent(server: Server, client: Any) -> None:
    measures = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0, "body_mass_g": 3750.0}
    columns = [given(name, np.array([value, value]), "FP64") for name, value in measures.items()]
    columns.append(given("island", np.array(["Torgersen", "Biscoe"], object), "BYTES"))
    answer = client.infer("sluice/penguins", columns)
    expected = singles(server, "sluice/penguins", [measures | {"island": island} for island in ("Torgersen", "Biscoe")])
    assert [one.decode() for one in answer.as_numpy("species").tolist()] == [one["species"] for one in expected]


@needs(MINILM)
def test_texts_give_the_vectors_of_the_embeddings_surface(server: Server, client: Any) -> None:
    texts = ["How old are you?", "What is your age?", "a " * 300]
    answer = client.infer(f"sluice/{MINILM}", [given("text", np.array(texts, object), "BYTES")])
    assert_same(answer.as_numpy("embedding"), vectors(ask(server, texts, MINILM)))


def test_a_hundred_thousand_rows_come_back_in_their_order(client: Any) -> None:
    rows = np.random.default_rng(3).uniform(0.1, 8, (100_000, 4)).astype(np.float32)
    answer = client.infer(IRIS, [given("X", rows, "FP32")])
    found = answer.as_numpy("probabilities")
    assert found.shape == (100_000, 3)
    places = [0, 1, 4095, 4096, 50_000, 99_999]
    alone = [client.infer(IRIS, [given("X", rows[i : i + 1], "FP32")]).as_numpy("probabilities")[0] for i in places]
    assert np.allclose(found[places], alone, atol=1e-6)


def test_a_refusal_is_the_clients_exception(server: Server, client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"there is no input 'Y': the model takes X \(FP32 \[-1, 4\]\)") as caught:
        client.infer(IRIS, [given("Y", X, "FP32")])
    assert caught.value.status() == "400"
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as stranger:
        with pytest.raises(InferenceServerException, match="No basic authentication provided"):
            stranger.infer(IRIS, [given("X", X, "FP32")])
        assert stranger.is_server_ready()
