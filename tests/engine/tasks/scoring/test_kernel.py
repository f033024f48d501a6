"""The native kernel gives the bytes that the careful way gives, or leaves the block to it; whatever the lines hold."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.frames import Header
from engine.tasks.scoring import kernel
from engine.tasks.scoring.columns import Numbers, TextColumn
from engine.tasks.scoring.kernel import Kernel, PlainIds
from engine.tasks.scoring.model import LoadedModel
from engine.tasks.scoring.score import score
from tests.serving import ROOT

pytestmark = pytest.mark.skipif(kernel.kernel() is None, reason="the kernel is not built here: there is no compiler")

# What differs from one answer to the next: the times, and ids that are made up.
CHANGING = re.compile(rb'"(?:end_time|start_time)":"[^"]*"|"yhat_id":"[0-9a-f]{32}"')
MODELS = ["sluice/iris", "sluice/wine", "sluice/penguins", "sluice/diabetes", "brandon/HelloWorld"]
SEED = 20261130


@cache
def opened(name: str) -> LoadedModel:
    folder = ROOT / "models" / name
    versions = sorted(folder.glob("*/model.onnx"))
    if not versions:
        pytest.skip(f"{name} is not built here")
    config = json.loads((folder / "config.json").read_text())
    return LoadedModel(f"{name}@1", versions[-1].parent, {"max_batch_size": 1024, "name": name.split("/")[1], **config})


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return opened(request.param)


def answered(model: LoadedModel, block: bytes, **header: Any) -> tuple[Header, bytes]:
    head, buffers = score(model, {"bulk_id": "0" * 32, "num_lines": block.count(b"\n"), "line": 1, **header}, memoryview(block))
    del head["stages"]
    return head, b"".join(buffers)


def both_ways(model: LoadedModel, block: bytes, **header: Any) -> Iterator[tuple[Header, bytes]]:
    """The answers with the kernel and without it."""
    plain = model.plain
    for way in (plain, None):
        model.plain = way
        try:
            head, lines = answered(model, block, **header)
        finally:
            model.plain = plain
        for part in head["parts"]:
            assert part["size"] == len(lines)
            part.pop("size")  # made-up ids are as long as each other, times are not
            sizes = part.pop("line_sizes", None)
            assert sizes is None or sum(sizes) == len(lines)
        yield head, CHANGING.sub(b"", lines)


def is_plain(model: LoadedModel, block: bytes) -> bool:
    return model.plain is not None and model.plain.read(block, block.count(b"\n"), 1024) is not None


def lines_of(records: list[Any]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


@cache
def example_of(key: str) -> dict[str, Any]:
    """The example record of the model with this key."""
    record: dict[str, Any] = json.loads((ROOT / "models" / key.split("@")[0] / "config.json").read_text())["example"]
    return record


# Blocks that the kernel must take: here a block would be slow, not wrong, if it were left to the careful way.

SHAPES: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "without an id": lambda record, i: record,
    "with a text as id": lambda record, i: {"yhat_id": f"é-{i}", **record},
    "with a number as id": lambda record, i: {**record, "yhat_id": i},
    "with fields that nobody wants": lambda record, i: {"a": None, **record, "b": [1, {"c": [-2.5e-3, True, "x"]}], "ü": {}},
    "in another order": lambda record, i: dict(random.Random(i).sample([*record.items()], len(record))),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_blocks_are_read_and_written_by_the_kernel_with_the_same_bytes(model: LoadedModel, shape: str) -> None:
    example = example_of(model.key)
    block = lines_of([SHAPES[shape](example, i) for i in range(50)])
    assert is_plain(model, block)
    with_kernel, without = both_ways(model, block, want_sizes=True)
    assert with_kernel == without


def test_blanks_and_carriage_returns_around_tokens_are_plain(model: LoadedModel) -> None:
    block = b"".join(
        b" " + json.dumps(example, indent=1).replace("\n", "\t").encode() + b" \r\n" for example in [example_of(model.key)] * 3
    )
    assert is_plain(model, block)
    with_kernel, without = both_ways(model, block)
    assert with_kernel == without


def test_a_line_with_very_many_keys_is_left_to_the_careful_way(model: LoadedModel) -> None:
    example = example_of(model.key)
    few, many = ({**{f"k{i}": i for i in range(count)}, **example} for count in (200, 300))
    assert is_plain(model, lines_of([few] * 3))
    assert not is_plain(model, lines_of([many] * 3))
    with_kernel, without = both_ways(model, lines_of([few, many]))
    assert with_kernel == without


# Blocks of any kind

numbers = st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.floats(width=32), st.sampled_from([0, -0.0, 1e-7, 1e22, 1e400]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_records_are_answered_with_the_same_bytes(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(WILD_MODELS))()
    example = example_of(model.key)
    records = data.draw(
        st.lists(st.fixed_dictionaries({}, optional={key: values for key in [*example, "yhat_id", "x"]}), max_size=4)
    )
    given_records = [{**example, **record} for record in records] or [example]
    block = b"".join(
        json.dumps(record, ensure_ascii=data.draw(st.booleans())).encode(errors="replace") + b"\n" for record in given_records
    )
    with_kernel, without = both_ways(model, block, want_sizes=data.draw(st.booleans()))
    assert with_kernel == without


WILD_MODELS = [partial(opened, name) for name in ("sluice/iris", "sluice/penguins", "brandon/HelloWorld")]

# What is put into lines: tokens that end, begin or break a value, and bytes that are not UTF-8.
WORDS = '" \\ { } [ ] , : - + . e E5 e-400 0 00 1 null true NaN Infinity 1e999 -0 -0.0 "yhat_id":1, "a":1, {"a": [1,2]'
PIECES = WORDS.encode().split()
PIECES += [b" ", b"\t", b"\r", b"\n", b"9" * 19, b"123456789012345678", b"\\u0041", b"\x00", b"\x1f", b"\x7f", b"\xef\xbb\xbf"]
PIECES += [b"\xff", b"\xc3", b"\xc3\xa4", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80"]


def mutated(block: bytes, source: random.Random) -> bytes:
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        at = source.randrange(len(block))
        cut = source.choice((0, 0, 1, 1, 2, source.randrange(1, 12)))
        block = block[:at] + source.choice((b"", *PIECES)) + block[at + cut :]
    return block.rstrip(b"\n") + b"\n"


def check_mutations(count: int, seed: int) -> None:
    source = random.Random(seed)
    models = [make() for make in WILD_MODELS]
    seen = 0
    for _ in range(count):
        model = source.choice(models)
        example = example_of(model.key)
        shape = source.choice([*SHAPES.values()])
        block = mutated(lines_of([shape(example, i) for i in range(source.choice((1, 2, 3)))]), source)
        seen += is_plain(model, block)
        with_kernel, without = both_ways(model, block)
        assert with_kernel == without, block
    assert seen > count // 20  # else the mutations show nothing


def test_mutated_blocks_are_answered_with_the_same_bytes() -> None:
    check_mutations(4_000, SEED)


@pytest.mark.heavy
def test_100_000_mutated_blocks_are_answered_with_the_same_bytes() -> None:
    check_mutations(100_000, SEED + 1)


# Memory

# Feeds blocks, each in memory of exactly its size, to a kernel that ends the process when it reads or writes elsewhere.
GUARDED = """
import random, sys
from pathlib import Path
import numpy as np
from engine.tasks.scoring import kernel
from tests.engine.tasks.scoring import test_kernel as ours
library = kernel.Kernel(Path(sys.argv[1]))
source = random.Random(int(sys.argv[2]))
f4, i8, text = np.dtype("f4"), np.dtype("i8"), np.dtype(object)
wanted = [(("a", "b"), f4), (("s",), text), (("v",), f4, 3), (("n",), i8)]
reader = kernel.BlockReader(library, [kernel.Wanted(*fields) for fields in wanted])
record = {"a": 1.5, "b": -2e-3, "s": "é", "v": [1, 2.5, 3], "x": {"y": [None, True, "z"]}}
records = [{"yhat_id": f"r{i}", "n": i, **record} for i in range(3)]
read = 0
for turn in range(100_000):
    block = ours.mutated(ours.lines_of(records), source)
    if turn % 3 == 0:
        block = block[: source.randrange(1, len(block))]
    exact = np.frombuffer(block, np.int8).copy()
    found = reader.read(exact, block.count(b"\\n"))
    if found is not None and len(found[1]):
        read += 1
        columns = [ours.TextColumn(b"<", ours.Numbers(found[0][0]), b">"), ours.TextColumn(b"", ours.Numbers(found[0][3]))]
        kernel.write(library, [[*columns, found[1], b"\\n"]], kernel.Memory())
print(read)
"""


@pytest.mark.heavy
def test_the_kernel_reads_and_writes_no_memory_but_its_own(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not here")
    guarded = tmp_path / "guarded.so"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    source = ROOT / "engine" / "tasks" / "scoring" / "kernel.cpp"
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", *checks, str(source), "-o", str(guarded)], check=True)
    sanitizer = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    environment = {**os.environ, "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", GUARDED, str(guarded), str(SEED)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 1_000


@pytest.mark.heavy
def test_streams_are_answered_alike_without_the_kernel() -> None:
    environment = {**os.environ, "SLUICE_NATIVE": "false"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not heavy", "tests/streaming", "tests/engine/tasks/scoring"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


# Numbers


def library() -> Kernel:
    found = kernel.kernel()
    assert found is not None
    return found


def joined(values: np.ndarray, memory: kernel.Memory) -> bytes:
    """What the kernel writes for each of these numbers, each with a comma behind it."""
    ids = PlainIds(np.zeros(1, np.int8), np.zeros((len(values), 2), np.int64), len(values))
    return bytes(kernel.write(library(), [[TextColumn(b"", Numbers(values)), b",", ids]], memory).text)


def written(values: np.ndarray) -> list[bytes]:
    """What the kernel writes for each of these numbers."""
    return joined(values, kernel.Memory()).split(b",")[:-1]


def dumped(values: np.ndarray) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def expected(values: np.ndarray) -> list[bytes]:
    return dumped(values).split(b",")


EDGES = [0.0, -0.0, 0.1, 123456.7, 3.4e38, 1e-45, 5e-324, 1e308]
EDGES += [digits * 10.0**power for digits in (1, 1.25, 9.99) for power in range(-9, 24)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_have_the_digits_and_the_form_that_orjson_gives_them(dtype: Any) -> None:
    source = np.random.default_rng(SEED)
    bits = source.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), 200_000, dtype=f"u{np.dtype(dtype).itemsize}")
    scaled = source.normal(size=200_000) * 10.0 ** source.integers(-8, 20, 200_000)
    with np.errstate(over="ignore"):
        values = np.concatenate([np.array(EDGES, dtype=dtype), bits.view(dtype), scaled.astype(dtype)])
    assert written(values) == expected(values)


@pytest.mark.heavy
def test_every_float_between_a_billionth_and_a_billion_is_written_as_orjson_writes_it() -> None:
    first, last = np.array([0.9e-9, 1.1e9], np.float32).view(np.uint32)
    memory = kernel.Memory()
    for start in range(int(first), int(last), 1_000_000):
        values = np.arange(start, start + 1_000_000, dtype=np.uint32).view(np.float32)
        assert joined(values, memory) == dumped(values) + b",", start


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.bool_, np.float16])
def test_other_numbers_are_written_as_orjson_writes_them(dtype: Any) -> None:
    values = np.array([0, 1, 2, 100], dtype=dtype)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        values = np.array([limits.min, limits.max, 0, 7], dtype=dtype)
    if dtype == np.float16:
        values = np.array([0.1, 1000.5, 65504, np.nan], dtype=dtype)
    assert written(values) == expected(values)


def test_numbers_are_read_as_the_nearest_float_of_their_type() -> None:
    source = random.Random(SEED)
    texts = [repr(source.uniform(-1, 1) * 10 ** source.randint(-30, 30)) for _ in range(20_000)]
    texts += [f"{source.randint(0, 10**17)}.{source.randint(0, 10 ** source.randint(1, 19))}" for _ in range(20_000)]
    texts += [f"{source.randint(-(10**18) + 1, 10**18 - 1)}" for _ in range(5_000)]
    block = "".join(f'{{"a":{text}}}\n' for text in texts).encode()
    for dtype in (np.float32, np.float64):
        reader = kernel.BlockReader(library(), [kernel.Wanted(("a",), np.dtype(dtype))])
        read = reader.read(block, len(texts))
        assert read is not None
        wanted = np.array([orjson.loads(text) for text in texts], dtype=dtype)
        np.testing.assert_array_equal(read[0][0][:, 0], wanted)


# The library


def test_a_library_with_another_contract_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "nothing.so").write_bytes(b"not a library")
    with pytest.raises(OSError, match="nothing"):
        Kernel(tmp_path / "nothing.so")
