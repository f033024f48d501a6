"""The task `check`: may an uploaded model be served, and how?

Looks at the graph's file, opens it, derives a config.json from it or compares the given one with it, and runs the example alone and
in batches. Runs in a replica of the `jobs` pool: a graph that crashes, hangs or takes all memory harms only that replica.
"""

import contextlib
import errno
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.frames import Header
from engine.tasks.codec import MAX_REASON_CHARACTERS, Record
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.publishing.onnx_file import OnnxFile, Unfit
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring.inputs import NUMPY_TYPES, Refused, Scalars
from engine.tasks.scoring.model import LoadedModel, open_session

Config = dict[str, Any]
Feeds = dict[str, np.ndarray]

MAX_DIFFERENCE = 1e-4
LARGEST_BATCH = 3
# A check may take this much memory, and four bytes for each byte of the files, beside what the replica has: the parsed graph, its
# session and a copy of the weights take three.
SPARE_BYTES = 1024**3
BYTES_PER_FILE_BYTE = 4
# The inputs that a tokenizer fills beside the token ids.
TOKENISED_INPUTS = frozenset({"attention_mask", "token_type_ids"})


def check(header: Header) -> Header:
    """The answer for one upload: `config` and `warnings`, or `refused` with the reason; `full` when the disk is.

    header   folder; owner, name; config: as in the file with defaults filled in, or null; data: names of external tensor files
    returns  in `config` what to change in the given one, or the whole config if none was given
    """
    folder = Path(header["folder"])
    try:
        with _limited_memory(folder):
            config, warnings = _checked(folder, header)
        answer: Header = {"config": config, "warnings": warnings}
    except Unfit as unfit:
        answer = {"refused": str(unfit)}
    except MemoryError:
        answer = {"refused": "the model needs too much memory"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        answer = {"full": True}
    return {"parts": [{"size": 0, **answer}]}


@contextlib.contextmanager
def _limited_memory(folder: Path) -> Iterator[None]:
    """While inside, an allocation beyond the limit fails with MemoryError, before the machine runs out of memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    files_bytes = sum(file.stat().st_size for file in folder.iterdir())
    limit_bytes = now_bytes + SPARE_BYTES + BYTES_PER_FILE_BYTE * files_bytes
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _checked(folder: Path, header: Header) -> tuple[Config, list[str]]:
    """What to change in the given config, or a whole one if none was given; and warnings. Unfit."""
    graph = OnnxFile(folder / "model.onnx")
    graph.refuse_foreign(set(header["data"]))
    warnings: list[str] = []
    session = _open(folder / "model.onnx", graph, warnings)
    categories = graph.categories()
    del graph  # it holds a copy of the weights
    config = header["config"]
    changes: Config = {}
    if config is None:
        changes = _derived(session, categories)
        config = {"max_batch_size": 1024, **changes}
    _hold_against_graph(config, session, folder)
    model = _built(f"{header['owner']}/{header['name']}@0", folder, {**config, "name": header["name"]}, session)
    if not _try_out(model, config, warnings):
        changes["max_batch_size"] = 1
    if config.get("task") == "embed":
        changes["fingerprint"] = _proven_fingerprint(folder, config, session)
    return changes, warnings


def _open(path: Path, graph: OnnxFile, warnings: list[str]) -> onnxruntime.InferenceSession:
    """A session of the graph. If only its locale is missing here, the file is rewritten with another one. Unfit."""
    try:
        return open_session(path)
    except Exception as error:  # a foreign file may fail in any way
        if "locale" not in str(error) or not graph.with_plain_locale():
            raise _unfit("the graph does not load", error) from None
    try:
        session = open_session(path)
    except Exception as error:  # for the same reason
        raise _unfit("the graph does not load", error) from None
    warnings.append("the locale of StringNormalizer is not installed here: it was changed to C.UTF-8")
    return session


def _unfit(what: str, error: Exception) -> Unfit:
    """A refusal with onnxruntime's reason, in one line, without its prefix and without paths."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:", "", text)
    words = " ".join(word for word in text.split() if "/" not in word and "\\" not in word)
    return Unfit(f"{what}: {words[:MAX_REASON_CHARACTERS] or type(error).__name__}")


# A config for a graph that was sent without one


def _derived(session: onnxruntime.InferenceSession, categories: dict[tuple[str, int], Any]) -> Config:
    """Derive a config. Each column is a field; an input of several columns takes x0, x1, ... or a list in the field of its name."""
    nodes = session.get_inputs()
    entries = [_derived_input(node) for node in nodes]
    if sum(entry["kind"] == "matrix" for entry in entries) > 1:
        raise Unfit("several inputs have several columns: send a config that names their fields")
    fields = [name for entry in entries for name in _fields(entry)]
    if len(set(fields)) < len(fields):
        raise Unfit("an input is named like a column of another (x0, x1, ...): send a config that names the fields")
    example: Record = {}
    for entry, node in zip(entries, nodes, strict=True):
        for i, name in enumerate(_fields(entry)):
            example[name] = categories.get((node.name, i), _plain_value(node))
    outputs = [{"output": node.name, "as": node.name} for node in session.get_outputs()]
    return {"inputs": entries, "outputs": outputs, "example": example}


def _derived_input(node: onnxruntime.NodeArg) -> Config:
    _check_type(node)
    width = _width(node)
    if width == 1:
        return {"kind": "column", "input": node.name, "field": node.name}
    if width is None:
        raise Unfit(f"input '{node.name}' has no fixed number of columns: send a config")
    return {"kind": "matrix", "input": node.name, "features": [f"x{i}" for i in range(width)], "field": node.name}


def _fields(entry: Config) -> list[str]:
    features: list[str] = entry.get("features") or [entry["field"]]
    return features


def _plain_value(node: onnxruntime.NodeArg) -> Any:
    return {"f": 0.0, "i": 0, "u": 0, "b": False, "O": "a"}[np.dtype(NUMPY_TYPES[node.type]).kind]


def _check_type(node: onnxruntime.NodeArg) -> None:
    if node.type not in NUMPY_TYPES:
        raise Unfit(f"input '{node.name}' is a {node.type}, which no record can give")


def _width(node: onnxruntime.NodeArg) -> int | None:
    """The number of columns of an input [N] or [N,k]; None if the graph leaves k open. Unfit for any other shape."""
    if len(node.shape) == 1:
        return 1
    if len(node.shape) != 2:
        raise Unfit(f"input '{node.name}' has {len(node.shape)} axes; a record gives 1 or 2 ([N] or [N,k])")
    return node.shape[1] if isinstance(node.shape[1], int) else None


# A config and its graph


def _hold_against_graph(config: Config, session: onnxruntime.InferenceSession, folder: Path) -> None:
    """Unfit if the inputs and outputs of the config are not those of the graph."""
    nodes = {node.name: node for node in session.get_inputs()}
    given: list[str] = []
    for entry in config["inputs"]:
        if entry["input"] not in nodes:
            raise Unfit(f"the graph has no input '{entry['input']}'; it has {_listed(nodes)}")
        node = nodes[entry["input"]]
        _check_type(node)
        _check_first_axis(node, config["max_batch_size"])
        if entry["kind"] == "text":
            _check_text(entry, node, folder)
            given += TOKENISED_INPUTS & nodes.keys()
        else:
            _check_columns(entry, node)
            _check_missing(entry, node)
        given.append(node.name)
    if len(set(given)) < len(given):
        raise Unfit("config gives the same input twice")
    if absent := nodes.keys() - set(given):
        raise Unfit(f"config does not give the input {_listed(sorted(absent))}")
    _check_tokenizer(config, folder)
    _check_outputs(config, [node.name for node in session.get_outputs()])


def _check_first_axis(node: onnxruntime.NodeArg, max_batch_size: int) -> None:
    first = node.shape[0] if node.shape else None
    if isinstance(first, int) and not first == max_batch_size == 1:
        hint = ', or send a config with "max_batch_size": 1' if first == 1 else ""
        raise Unfit(f"input '{node.name}' takes batches of {first} only: export the graph with an open first axis{hint}")


def _check_columns(entry: Config, node: onnxruntime.NodeArg) -> None:
    width = _width(node)
    if entry["kind"] == "column" and width not in (1, None):
        raise Unfit(f"input '{node.name}' has {width} columns, config gives it one field")
    if entry["kind"] == "column":
        return
    if len(node.shape) != 2:
        raise Unfit(f"input '{node.name}' takes one value for each record, config gives it a {entry['kind']}")
    if entry["kind"] == "vector" and width is None:
        raise Unfit(f"input '{node.name}' has no fixed number of columns: name them as the features of a matrix")
    if entry["kind"] == "period_days" and width != entry["window"]:
        raise Unfit(f"input '{node.name}' has {width} columns, config gives it {entry['window']} periods")
    if entry["kind"] == "period_days" and np.dtype(NUMPY_TYPES[node.type]).kind != "f":
        raise Unfit(f"input '{node.name}' is a {node.type}, config gives it days, which are floats")
    if entry["kind"] == "matrix" and width not in (len(entry["features"]), None):
        raise Unfit(f"input '{node.name}' has {width} columns, config names {len(entry['features'])} features")


def _check_missing(entry: Config, node: onnxruntime.NodeArg) -> None:
    """Unfit if the input does not take its default: scoring uses defaults without checking them."""
    default = entry.get("missing")
    if default is None:
        return
    scalars = Scalars(NUMPY_TYPES[node.type], coerce=False)
    if default == "nan" and scalars.dtype.kind == "f":
        return
    values = default if entry["kind"] == "vector" and isinstance(default, list) else [default]
    if entry["kind"] == "vector" and isinstance(default, list) and len(default) != _width(node):
        raise Unfit(f"input '{node.name}': 'missing' has {len(default)} values, the input {_width(node)} columns")
    try:
        for value in values:
            scalars.check(value, "missing")
    except Refused as refused:
        raise Unfit(f"input '{node.name}': {refused.fault.reason}") from None


def _check_text(entry: Config, node: onnxruntime.NodeArg, folder: Path) -> None:
    if node.type != "tensor(int64)" or len(node.shape) != 2:
        raise Unfit(f"input '{node.name}' takes no tokens: they are int64 [N, tokens]")
    if not (folder / entry["tokenizer"]).is_file():
        raise Unfit(f"input '{node.name}' needs {entry['tokenizer']}: send it as the part 'tokenizer'")


def _check_tokenizer(config: Config, folder: Path) -> None:
    if (folder / "tokenizer.json").is_file() and not any(entry["kind"] == "text" for entry in config["inputs"]):
        raise Unfit("a tokenizer needs a config with an input of kind 'text'")


def _check_outputs(config: Config, names: list[str]) -> None:
    for output in config["outputs"]:
        if output["output"] not in names:
            raise Unfit(f"the graph has no output '{output['output']}'; it has {_listed(names)}")


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


# Running it


def _built(key: str, folder: Path, config: Config, session: onnxruntime.InferenceSession) -> LoadedModel:
    try:
        return LoadedModel(key, folder, config, session)
    except Exception as error:  # a tokenizer file may fail in any way
        raise _unfit("the model cannot be built", error) from None


def _try_out(model: LoadedModel, config: Config, warnings: list[str]) -> bool:
    """Run the example alone and in batches. False if records have other results in a batch than alone. Unfit if a run fails."""
    count = min(LARGEST_BATCH, config["max_batch_size"])
    feeds, faults = model.tensors([config["example"]] * count)
    if faults:
        raise Unfit(f"the example is refused: {faults[0].reason}")
    feeds, alone = _run_alone(model, config, feeds, count)
    worst = 0.0
    for size in range(2, count + 1):
        rows = _rows(model, config, _part(feeds, 0, size), size)
        worst = max([worst, *(_difference(row, own) for row, own in zip(rows, alone, strict=False))])
    if worst > MAX_DIFFERENCE:
        model.max_batch_size = 1
        warnings.append(f"records in a batch get other results than alone (by up to {worst:.2g}): max_batch_size is set to 1")
    try:
        model.warm_up(config["example"])  # every replica will do the same: what fails there must fail here
    except Exception as error:  # a result that cannot be encoded, or a graph that fails for many records
        raise _unfit("the example has no result", error) from None
    return model.max_batch_size == config["max_batch_size"]


def _proven_fingerprint(folder: Path, config: Config, session: onnxruntime.InferenceSession) -> str:
    """The fingerprint of an embedding model. Unfit if the config gives one and the example has another vector."""
    try:
        embedder = Embedder(f"{config['owner']}/{config['name']}@0", folder, config, session)
        embedder.check_fingerprint(config["example"])
        return config.get("fingerprint") or embedder.fingerprint(config["example"])
    except Exception as error:  # vectors of another length, or a graph that fails for this text alone
        raise _unfit("the example has no vector of the config's dim", error) from None


def _run_alone(model: LoadedModel, config: Config, feeds: Feeds, count: int) -> tuple[Feeds, list[list[Any]]]:
    """The feeds, of records that differ or of equal ones if the graph fails on those; and the results of each record alone."""
    for trial in (_varied(feeds), feeds):
        try:
            return trial, [_rows(model, config, _part(trial, i, i + 1), 1)[0] for i in range(count)]
        except Unfit:
            if trial is feeds:
                raise
    raise AssertionError("this is a bug: the loop returns or raises")


def _varied(feeds: Feeds) -> Feeds:
    """Copies of the example with different numbers in each: equal records do not show that a graph mixes those of a batch."""
    return {name: _shifted(array) if array.dtype.kind == "f" else array for name, array in feeds.items()}


def _shifted(array: np.ndarray) -> np.ndarray:
    steps = np.arange(len(array), dtype=array.dtype).reshape(-1, *[1] * (array.ndim - 1))
    shifted: np.ndarray = array + steps / 4
    return shifted.astype(array.dtype)


def _part(feeds: Feeds, start: int, end: int) -> Feeds:
    return {name: array[start:end] for name, array in feeds.items()}


def _rows(model: LoadedModel, config: Config, feeds: Feeds, size: int) -> list[list[Any]]:
    """The results of a batch: for each record a list with its value of each output. Unfit."""
    try:
        values = model.values(feeds)
    except Exception as error:  # a foreign graph may fail in any way
        raise _unfit("the example fails" if size == 1 else f"a batch of {size} records fails", error) from None
    columns = [_by_record(output, value, size) for output, value in zip(config["outputs"], values, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _by_record(output: Config, value: Any, size: int) -> list[Any]:
    """The values of one output, one for each record. Unfit if they are not."""
    name, axis = output["output"], output.get("axis", 0)
    if isinstance(value, np.ndarray) and value.ndim > axis:
        value = np.moveaxis(value, axis, 0)
    elif not isinstance(value, list):
        raise Unfit(f"output '{name}' has no batch axis {axis}")
    if len(value) != size:
        raise Unfit(f"output '{name}' has {len(value)} results for {size} records: its batch axis does not follow")
    return list(value)


def _difference(one: Any, other: Any) -> float:
    """The largest difference between two results, relative for values over 1; infinite if they cannot be compared."""
    if isinstance(one, list | tuple):
        return max((_difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return float("inf")
        return max((_difference(one[key], other[key]) for key in one), default=0.0)
    left, right = np.asarray(one), np.asarray(other)
    if left.shape != right.shape:
        return float("inf")
    if left.dtype.kind != "f":
        return 0.0 if bool((left == right).all()) else float("inf")
    return _float_difference(left.astype(np.float64), right.astype(np.float64))


def _float_difference(left: np.ndarray, right: np.ndarray) -> float:
    is_same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        differences = np.where(is_same, 0.0, np.abs(left - right) / np.maximum(1.0, np.abs(right)))
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0))
