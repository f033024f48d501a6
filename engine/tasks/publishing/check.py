"""The task `check`: may an uploaded model be served, and how?

Looks at the graph's file, opens it, derives what the sent config.json leaves out, compares the whole with the graph, and runs the
example alone and in batches. Runs in a replica of the `jobs` pool: a graph that crashes, hangs or takes all memory harms only that
replica.
"""

import contextlib
import errno
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.frames import Header
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.publishing.comparing import faults_of, joined
from engine.tasks.publishing.deriving import DEFAULT_BATCH_SIZE, Config, Graph, completed, examples
from engine.tasks.publishing.onnx_file import OnnxFile, Unfit
from engine.tasks.publishing.trying import BatchEffect, batch_effect, first_that_runs, labels_fit, unfit, warm_up
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring.model import LoadedModel
from engine.tasks.scoring.sessions import MissingProvider, is_cpu_only, open_session

# A check may take this much memory, and four bytes for each byte of the files, beside what the replica has: the parsed graph, its
# session and a copy of the weights take three.
SPARE_BYTES = 1024**3
BYTES_PER_FILE_BYTE = 4


def check(header: Header) -> Header:
    """The answer for one upload: `config` and `warnings`, or `refused` with the reasons; `full` when the disk is.

    header   folder; owner, name; config: the usable part of what was sent, with defaults filled in, or null; faults: of the rest;
             data: names of external tensor files; providers: those of the setting
    returns  in `config` what to change in the given one: what it leaves out, and what the graph does not allow
    """
    folder = Path(header["folder"])
    sent: Config = header["config"] or {}
    providers: Sequence[str] = sent.get("providers") or header.get("providers") or ()
    try:
        with _limited_memory(folder) if is_cpu_only(providers) else contextlib.nullcontext():
            config, warnings = _checked(folder, header, sent, providers)
        answer: Header = {"config": config, "warnings": warnings}
    except Unfit as refusal:
        answer = {"refused": str(refusal)}
    except MemoryError:
        answer = {"refused": "the model needs too much memory"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        answer = {"full": True}
    return {"parts": [{"size": 0, **answer}]}


@contextlib.contextmanager
def _limited_memory(folder: Path) -> Iterator[None]:
    """While inside, an allocation beyond the limit fails with MemoryError, before the machine runs out of memory.

    Not for other devices than the processor: their drivers reserve addresses for all memory of the machine and the device.
    """
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


def _checked(folder: Path, header: Header, sent: Config, providers: Sequence[str]) -> tuple[Config, list[str]]:
    """What to change in the sent config, and warnings. Unfit."""
    warnings: list[str] = []
    session, graph = _opened(folder, header["data"], providers, warnings)
    config = completed(sent, graph)
    if faults := [*header.get("faults", ()), *faults_of(config, graph, folder)]:
        raise Unfit(joined(faults))
    title = {"owner": header["owner"], "name": header["name"]}
    model = _built(f"{header['owner']}/{header['name']}@0", folder, config | title, session)
    if config.get("example") is None:
        config["example"] = first_that_runs(model, config, examples(config, graph))
    if faults := labels_fit(model, config, graph):
        raise Unfit(joined(faults))
    if effect := batch_effect(model, config):
        config["max_batch_size"] = model.max_batch_size = _allowed_batch(config, effect, warnings)
    warm_up(model, config)
    changes = _changes(sent, config)
    if config["task"] == "embed":
        changes["fingerprint"] = _proven_fingerprint(folder, config | title, session)
    return changes, warnings


def _changes(sent: Config, config: Config) -> Config:
    """What of the whole config is not as it was sent, or as it is by default."""
    given = {"max_batch_size": DEFAULT_BATCH_SIZE} | sent
    keys = ("inputs", "outputs", "example", "max_batch_size")
    return {key: config[key] for key in keys if config[key] != given.get(key)}


def _opened(
    folder: Path, data_files: list[str], providers: Sequence[str], warnings: list[str]
) -> tuple[onnxruntime.InferenceSession, Graph]:
    """A session of the uploaded graph, and what is known of it without running it. Unfit."""
    path = folder / "model.onnx"
    file = OnnxFile(path)
    file.refuse_foreign(set(data_files))
    session = _open(path, file, providers, warnings)
    # The file is dropped with this call: it holds a copy of the weights.
    return session, Graph(session.get_inputs(), session.get_outputs(), file.categories(), file.classes())


def _open(path: Path, file: OnnxFile, providers: Sequence[str], warnings: list[str]) -> onnxruntime.InferenceSession:
    """A session of the graph. If only its locale is missing here, the file is rewritten with another one. Unfit."""
    try:
        return open_session(path, providers)
    except MissingProvider as missing:
        raise Unfit(str(missing)) from None
    except Exception as error:  # a foreign file may fail in any way
        if "locale" not in str(error) or not file.with_plain_locale():
            raise unfit("the graph does not load", error) from None
    try:
        session = open_session(path, providers)
    except Exception as error:  # for the same reason
        raise unfit("the graph does not load", error) from None
    warnings.append("the locale of StringNormalizer is not installed here: it was changed to C.UTF-8")
    return session


def _built(key: str, folder: Path, config: Config, session: onnxruntime.InferenceSession) -> LoadedModel:
    try:
        return LoadedModel(key, folder, config, session)
    except Exception as error:  # a tokenizer file may fail in any way
        raise unfit("the model cannot be built", error) from None


def _allowed_batch(config: Config, effect: BatchEffect, warnings: list[str]) -> int:
    """The most records of a run for a graph that answers them differently in a batch; a warning says what that costs or brings."""
    tolerance: float = config.get("batch_tolerance") or 0.0
    # Classes and words have no difference: the share of the records that get another one stands for it.
    is_allowed = 0.0 < tolerance >= max(effect.difference, effect.num_flipped / effect.size)
    flipped = f", another class for {effect.num_flipped} of {effect.size}" if effect.num_flipped else ""
    speeds = f"{effect.alone_per_s:,.0f} records/s alone, {effect.together_per_s:,.0f} in batches of {effect.size}"
    if is_allowed:
        result = f"batch_tolerance {tolerance:g} allows that"
    elif tolerance:
        result = f"batch_tolerance {tolerance:g} does not allow that: max_batch_size is set to 1"
    else:
        result = "max_batch_size is set to 1; a config with batch_tolerance allows such a difference"
    how = f"by up to {effect.difference:.2g}{flipped}"
    warnings.append(f"records in a batch get other results than alone ({how}; a replica runs {speeds}): {result}")
    size: int = config["max_batch_size"]
    return size if is_allowed else 1


def _proven_fingerprint(folder: Path, config: Config, session: onnxruntime.InferenceSession) -> str:
    """The fingerprint of an embedding model. Unfit if the config gives one and the example has another vector."""
    try:
        embedder = Embedder(f"{config['owner']}/{config['name']}@0", folder, config, session)
        embedder.check_fingerprint(config["example"])
        return config.get("fingerprint") or embedder.fingerprint(config["example"])
    except Exception as error:  # vectors of another length, or a graph that fails for this text alone
        raise unfit("the example has no vector of the config's dim", error) from None
