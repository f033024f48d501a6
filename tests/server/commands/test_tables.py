"""The command `score` with tables: csv and Parquet go in, and csv, Parquet or results alone come out, in the order of the rows."""

import csv
import gzip
import json
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.clients import answers, ndjson, until
from tests.server.commands.test_score import HELLO, IRIS, TIMEOUT_S, feed, pretending, running, score
from tests.serving import Server

FLOWERS = [(5.1, 3.5, 1.4, 0.2), (6.2, 2.9, 4.3, 1.3), (7.7, 3.0, 6.1, 2.3)]
SPECIES = ["setosa", "versicolor", "virginica"]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def flowers(count: int) -> pa.Table:
    """Rows of three species in turn, with ids of their own."""
    rows = [FLOWERS[i % 3] for i in range(count)]
    return pa.table({"yhat_id": [*range(count)], **{name: [row[i] for row in rows] for i, name in enumerate(NAMES)}})


def written(path: Path, table: pa.Table) -> Path:
    """The table as a file of the kind that its name ends in."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(table, path)
    elif name.endswith("ndjson"):
        path.write_bytes(ndjson(table.to_pylist()))
    else:
        separator = "\t" if name.endswith(".tsv") else ","
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(delimiter=separator))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("name", ["f.csv", "f.tsv", "f.csv.gz", "f.parquet", "f.ndjson.gz", "F.CSV"])
def test_every_row_of_a_table_is_a_record(server: Server, tmp_path: Path, name: str) -> None:
    done = score(server, IRIS, written(tmp_path / name, flowers(5000)), "--ordered")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"5,000 records: 5,000 results, 0 errors")
    found = [(line["yhat_id"], line["result"]["label"]) for line in answers(done.stdout)]
    assert found == [(i, SPECIES[i % 3]) for i in range(5000)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("way", ["the name of a file", "an option and standard output"])
def test_results_become_a_table_in_the_order_of_the_records(server: Server, tmp_path: Path, form: str, way: str) -> None:
    file, out = written(tmp_path / "f.csv", flowers(20_000)), tmp_path / f"out.{form}"
    out.write_bytes(b"old content that is longer than the table " * 100_000)
    if way == "the name of a file":
        done = score(server, IRIS, file, "-o", out)
    else:
        done = score(server, IRIS, file, "--format", form)
        out.write_bytes(done.stdout)
    assert (done.returncode, done.stderr[:40]) == (0, b"20,000 records: 20,000 results, 0 errors")
    table = pq.read_table(out) if form == "parquet" else pa.csv.read_csv(out)
    assert table.column_names[0] == "yhat_id"
    assert table["yhat_id"].to_pylist() == [*range(20_000)]
    assert table["label"].to_pylist() == [SPECIES[i % 3] for i in range(20_000)]
    assert "code" not in table.column_names


def test_an_error_is_a_row_with_its_code(server: Server, tmp_path: Path) -> None:
    data = ndjson([{"name": 'a,\n"b"', "yhat_id": 1}, {"yhat_id": 2}, {"name": ""}])
    done = score(server, HELLO, "-", "--format", "csv", data=data)
    assert done.returncode == 1
    [head, *rows] = csv.reader(done.stdout.decode().splitlines(keepends=True))
    assert head == ["yhat_id", "greeting", "code", "error"]
    assert rows[0] == ["1", 'Hello a,\n"b"', "", ""]
    assert (rows[1][:3], rows[2][1]) == (["2", "", "missing_field"], "Hello ")
    apart = score(server, HELLO, "-", "--format", "csv", "--errors", tmp_path / "errors", data=b'{"name":"a","yhat_id":1}\n{}\n')
    assert apart.stdout == b"yhat_id,greeting\n1,Hello a\n"
    assert len(answers((tmp_path / "errors").read_bytes())) == 1


def test_bare_results_stand_alone_on_their_lines(server: Server, tmp_path: Path) -> None:
    tricky = ',"start_time":"x","version":1,"result":{'
    data = ndjson([{"name": "a", "yhat_id": tricky}, {"yhat_id": 3}, {"name": tricky}])
    done = score(server, HELLO, "-", "--format", "results", data=data)
    assert done.returncode == 1
    first, error, last = answers(done.stdout)
    assert (first, last) == ({"greeting": "Hello a"}, {"greeting": f"Hello {tricky}"})
    assert error["code"] == "missing_field"
    many = score(server, IRIS, written(tmp_path / "f.csv", flowers(9000)), "--format", "results")
    assert [line["label"] for line in answers(many.stdout)] == [SPECIES[i % 3] for i in range(9000)]


def test_lists_are_lists_in_parquet_and_json_in_csv(server: Server, tmp_path: Path) -> None:
    """Up to their last digits: the model gives a flower alone other digits than a flower among others."""
    data = ndjson([dict(zip(NAMES, flower, strict=True)) for flower in FLOWERS])
    found = score(server, IRIS, "-", "--format", "results", data=data)
    expected = answers(found.stdout)
    score(server, IRIS, "-", "-o", tmp_path / "o.parquet", data=data)
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    score(server, IRIS, "-", "-o", tmp_path / "o.csv", data=data)
    cells = [*csv.DictReader((tmp_path / "o.csv").read_text().splitlines())]
    for name, value in expected[0].items():
        if isinstance(value, dict):
            found = [one for line in expected for one in line[name].values()]
            assert [row[f"{name}.{key}"] for row in rows for key in value] == found
        elif isinstance(value, list):
            for found in ([row[name] for row in rows], [json.loads(cell[name]) for cell in cells]):
                assert found == [pytest.approx(line[name], rel=1e-5, abs=1e-9) for line in expected]
        else:
            assert [cell[name] for cell in cells] == [str(line[name]) for line in expected]


# What goes wrong


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "No such file"),
        ("bad.parquet", b"no parquet", "bad.parquet: the file cannot be read"),
        ("bad.csv", b"a,a\n1,2\n", "two columns have the same name"),
        ("bad.csv.gz", b"no gzip", "bad.csv.gz: the file cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line_and_nothing_is_sent(
    server: Server, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.csv"
    out.write_text("kept")
    done = score(server, HELLO, tmp_path / name, "-o", out)
    assert (done.returncode, done.stdout) == (64, b"")
    [line] = done.stderr.decode().splitlines()
    assert said in line
    assert out.read_text() == "kept"


def test_a_table_that_breaks_off_later_is_a_cut(server: Server, tmp_path: Path) -> None:
    path = written(tmp_path / "f.ndjson.gz", flowers(100_000))
    path.write_bytes(path.read_bytes()[:-1000])
    done = score(server, IRIS, path, "-o", tmp_path / "out.csv")
    assert done.returncode == 2
    assert b"the file cannot be read" in done.stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) > 1000, "what was answered is kept"


def test_a_refusal_keeps_the_table_that_was_there(server: Server, tmp_path: Path) -> None:
    file, out = written(tmp_path / "f.csv", flowers(10)), tmp_path / "out.parquet"
    out.write_text("kept")
    assert score(server, "sluice/nothing", file, "-o", out).returncode == 3
    assert out.read_text() == "kept"


def test_a_table_is_not_written_over_itself(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", flowers(10))
    before = file.read_bytes()
    done = score(server, IRIS, file, "-o", file)
    assert (done.returncode, b"must be different files" in done.stderr) == (64, True)
    assert file.read_bytes() == before


def test_a_full_disk_is_told(server: Server, tmp_path: Path) -> None:
    done = score(server, IRIS, written(tmp_path / "f.csv", flowers(10)), "--format", "csv", "-o", "/dev/full")
    assert (done.returncode, b"No space left" in done.stderr) == (2, True)


def test_an_interrupt_leaves_a_table_of_what_was_answered(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    before = server.metric(f'sluice_records_total{{model="{HELLO}",outcome="result"}}')
    with running(server, HELLO, "-", "-o", out) as process:
        feed(process, ndjson({"name": f"n{i}", "yhat_id": i} for i in range(10)))
        until(lambda: server.metric(f'sluice_records_total{{model="{HELLO}",outcome="result"}}') >= before + 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 2
    assert out.read_text().startswith("yhat_id,greeting\n") or out.read_text() == "\n"


# --max-errors


def test_more_errors_than_allowed_end_the_stream(server: Server, tmp_path: Path) -> None:
    with running(server, HELLO, "-", "--max-errors", "2", "-o", tmp_path / "out") as process:
        feed(process, b"{}\n" * 2)
        until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_bytes().count(b"\n") == 2)
        feed(process, b"{}\n")
        assert process.wait(TIMEOUT_S) == 2
        assert process.stderr is not None
        expected = b"score: cut after 3 records: 0 results, 3 errors: more than 2 errors (--max-errors)\n"
        assert process.stderr.read() == expected
    done = score(server, HELLO, "-", "--max-errors", "2", data=b"{}\n{}\n")
    assert done.returncode == 1


# What stands between


def test_a_page_of_a_proxy_is_one_readable_line(tmp_path: Path) -> None:
    file = tmp_path / "records"
    file.write_bytes(b'{"name":"a"}\n')
    page = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>nginx</body>\r\n</html>"
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (
        len(page),
        page,
    )
    with pretending(refusal) as proxy:
        done = score(None, "a/b", file, "--url", proxy.url)
    assert done.returncode == 3
    said = "413 Request Entity Too Large (a page of HTML, so perhaps from a proxy): a proxy on the way limits the size of bodies"
    assert done.stderr.decode() == f"score: {said}\n"
    login = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    with pretending(login) as proxy:
        done = score(None, "a/b", file, "--url", proxy.url)
    assert done.returncode == 3
    assert done.stderr.decode() == f"score: {proxy.url} gives an answer that Sluice does not give: is it the right address?\n"
    done = score(None, "a/b", file, "--max-errors", "-1")
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)


def test_the_port_of_the_environment_is_that_of_the_server(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", flowers(3))
    place = {"SLUICE_PORT": str(server.port), "SLUICE_DATA_DIR": str(server.data_dir)}
    assert score(None, IRIS, file, **place).returncode == 0
    done = score(None, IRIS, file, SLUICE_PORT="70000")
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)


# Record batches


@pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.arrows"])
@pytest.mark.parametrize("out", ["o.parquet", "o.arrow"])
def test_tables_go_through_a_model_as_record_batches(server: Server, tmp_path: Path, name: str, out: str) -> None:
    """The types are those of the model: lines would have made float64 of its float32."""
    table = flowers(20_000)
    write_arrow(tmp_path / name, table)
    done = score(server, IRIS, tmp_path / name, "-o", tmp_path / out)
    assert (done.returncode, b"20,000 results, 0 errors" in done.stderr) == (0, True)
    found = read_arrow(tmp_path / out)
    assert found["yhat_id"].to_pylist() == table["yhat_id"].to_pylist()
    assert (found.schema.names, found.schema.field("probabilities").type.value_type) == (
        ["yhat_id", "label", "probabilities"],
        pa.float32(),
    )


def test_rows_with_errors_have_their_reasons_in_the_table(server: Server, tmp_path: Path) -> None:
    records = flowers(10).to_pylist()
    records[3]["sepal_width"] = None
    write_arrow(tmp_path / "f.parquet", pa.Table.from_pylist(records))
    done = score(server, IRIS, tmp_path / "f.parquet", "-o", tmp_path / "o.arrow")
    assert done.returncode == 1
    found = read_arrow(tmp_path / "o.arrow")
    assert found["code"].to_pylist() == [None] * 3 + ["missing_field"] + [None] * 6


def test_an_arrow_file_is_answered_by_lines_where_lines_are_wanted(server: Server, tmp_path: Path) -> None:
    write_arrow(tmp_path / "f.arrow", flowers(300))
    done = score(server, IRIS, tmp_path / "f.arrow", "--ordered")
    assert done.returncode == 0
    assert len(answers(done.stdout)) == 300
    assert score(server, IRIS, tmp_path / "f.arrow", "-o", tmp_path / "o.csv").returncode == 0
    assert len(pa.csv.read_csv(tmp_path / "o.csv")) == 300


def test_what_cannot_become_an_arrow_table_is_a_usage_error(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", flowers(10))
    done = score(server, IRIS, file, "-o", tmp_path / "o.arrow")
    assert done.returncode == 64
    assert b"an Arrow table is made of .arrow, .arrows, .feather, .ipc, .parquet" in done.stderr
    (tmp_path / "bad.arrow").write_bytes(b"no arrow at all")
    done = score(server, IRIS, tmp_path / "bad.arrow", "-o", tmp_path / "o.arrow")
    assert (done.returncode, done.stderr.count(b"\n")) == (64, 1)


def write_arrow(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with (pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream)(path, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path) -> pa.Table:
    return pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()
