"""A client that openapi-python-client makes of the running server's document: it predicts, embeds, queries and sends rows."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.embeddings.small_models import SmallModels
from tests.serving import ROOT, Server, serving

# Nothing is run on what was made: the program would look for its own version of ruff.
CONFIG = "post_hooks: []\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a small embedding model, `admin/small`, that needs no weights of ours."""
    data_dir = tmp_path_factory.mktemp("generated") / "data"
    SmallModels(tmp_path_factory.mktemp("small")).put(data_dir, "admin/small")
    (data_dir / "models" / "models.txt").write_text("admin/small\n")
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        yield server


@pytest.fixture(scope="module")
def made(house: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The package that was made, and what the program has said."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(requests.get(f"{house.url}/openapi.json", timeout=30).content)
    (folder / "config.yml").write_text(CONFIG)
    options = ["--path", "openapi.json", "--config", "config.yml", "--meta", "none", "--output-path", "sluice_client"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    yield SimpleNamespace(folder=folder, said=done.stdout + done.stderr)
    for name in [name for name in sys.modules if name.partition(".")[0] == "sluice_client"]:
        del sys.modules[name]


def module(made: SimpleNamespace, name: str) -> Any:
    sys.path.insert(0, str(made.folder))
    try:
        return __import__(f"sluice_client.{name}", fromlist=["_"])
    finally:
        sys.path.remove(str(made.folder))


@pytest.fixture
def client(made: SimpleNamespace, house: Server) -> Iterator[Any]:
    with module(made, "client").AuthenticatedClient(base_url=house.url, token=house.key) as client:
        yield client


def call(made: SimpleNamespace, name: str) -> Any:
    """The function that the program has made of an operation."""
    return module(made, f"api.{name}")


def test_no_operation_is_left_out(made: SimpleNamespace, house: Server) -> None:
    """The program leaves out what it cannot read, with a warning."""
    documented = requests.get(f"{house.url}/openapi.json", timeout=30).json()["paths"].values()
    ids = {one["operationId"] for of_path in documented for one in of_path.values()}
    files = {path.stem for path in Path(made.folder / "sluice_client" / "api").rglob("*.py") if path.name != "__init__.py"}
    assert ids - files == set(), made.said


def test_it_predicts(made: SimpleNamespace, client: Any) -> None:
    record = module(made, "models").RecordBody.from_dict({"name": "Kermit", "yhat_id": "mine"})
    predict = call(made, "streaming.post_owner_models_model")
    answer = predict.sync("brandon", "HelloWorld", client=client, body=record)
    assert (answer.result, answer.version, answer.yhat_id) == ({"greeting": "Hello Kermit"}, 1, "mine")
    refused = predict.sync_detailed("brandon", "Nowhere", client=client, body=record)
    assert (refused.status_code, bool(refused.parsed.error)) == (404, True)


def test_it_embeds_in_both_shapes(made: SimpleNamespace, client: Any) -> None:
    models = module(made, "models")
    small = call(made, "embeddings.post_embeddings").sync(
        client=client, body=models.SimpleRequest(model="small", input_=["a", "b"])
    )
    assert [one.index for one in small.data] == [0, 1]
    other = call(made, "embeddings.post_v1_embeddings").sync(client=client, body=models.OpenAIRequest(model="small", input_="a"))
    assert other.data[0].embedding == pytest.approx(small.data[0].embedding)
    assert other.usage.total_tokens == small.data[0].num_tokens


def test_it_publishes_a_file_and_a_form(made: SimpleNamespace, client: Any) -> None:
    models, types = module(made, "models"), module(made, "types")
    publish = call(made, "streaming.put_owner_models_model")
    graph = (ROOT / "models" / "brandon" / "HelloWorld" / "1" / "model.onnx").read_bytes()
    first = publish.sync("admin", "hello", client=client, body=types.File(io.BytesIO(graph)))
    assert (first.version, first.status) == (1, "Successfully deployed")
    form = models.PutOwnerModelsModelFilesBody(model=types.File(io.BytesIO(graph), "model.onnx"))
    assert publish.sync("admin", "other", client=client, body=form).version == 1


def test_it_sends_rows_and_queries_them(made: SimpleNamespace, client: Any) -> None:
    models = module(made, "models")
    row = models.RowBody.from_dict({"text": "Honey never spoils.", "year": 2019})
    put = call(made, "datasets.put_api_datasets_org_dataset")
    assert put.sync("admin", "facts", client=client, body=row).rows == 1
    post = call(made, "datasets.post_api_datasets_org_dataset_rows")
    more = models.RowBody.from_dict({"text": "Rain is wet.", "year": 2021})
    added = post.sync("admin", "facts", client=client, body=more)
    assert [column.name for column in added.columns] == ["text", "year"]
    asked = models.QueryRequest(query='select text from "hub://admin/facts" where year > 2020')
    answer = call(made, "query.post_api_query_v1").sync(client=client, body=asked)
    assert [one.to_dict() for one in answer.data] == [{"text": "Rain is wet."}]
    described = call(made, "datasets.get_api_datasets_org_dataset").sync("admin", "facts", client=client)
    assert (described.rows, described.splits.to_dict()) == (2, {"train": 2})
    listed = call(made, "datasets.get_api_datasets").sync(client=client)
    assert [one.dataset for one in listed.datasets] == ["hub://admin/facts"]
