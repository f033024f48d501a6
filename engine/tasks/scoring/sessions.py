"""Sessions of onnxruntime, on the execution providers that a model asks for.

A provider that is missing is an error and never a silent way to the processor: a model that was meant for a GPU would be served a
hundred times slower, and nobody would know why.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.tasks.runtime import FATAL, onnxruntime

SUFFIX = "ExecutionProvider"
CPU = f"CPU{SUFFIX}"
# Options of providers. By default CUDA multiplies with 10 bits of precision, so that a record has another result in a batch than
# alone, and its arena doubles with each step.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    f"CUDA{SUFFIX}": {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"},
}


class MissingProvider(Exception):
    """An execution provider cannot be used here. One sentence that says which, and what would help."""


def open_session(graph: Path | bytes, providers: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """A session that uses one core: replicas are the parallelism, and a spinning thread would take the core of another replica.

    graph      its file, or its bytes
    providers  the preferred one first, in any letters, with or without SUFFIX; the processor follows for what they cannot do.
               Without any it is the processor alone
    raises     MissingProvider; or what onnxruntime raises
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena never gives back the memory of the largest batch it saw. Without it iris is as fast, and the memory is freed.
    options.enable_cpu_mem_arena = False
    names = available(providers)
    asked: list[Any] = [(name, PROVIDER_OPTIONS.get(name, {})) for name in names]
    session = onnxruntime.InferenceSession(graph if isinstance(graph, bytes) else str(graph), options, providers=asked)
    _require_started(session, names)
    return session


def available(providers: Sequence[str]) -> list[str]:
    """The providers as onnxruntime calls them, and the processor. MissingProvider if the build that is installed lacks one."""
    here = {_short(name): name for name in onnxruntime.get_available_providers()}
    known = {_short(name) for name in onnxruntime.get_all_providers()}
    wanted = list(dict.fromkeys(map(_short, providers)))
    for name in wanted:
        if name not in here:
            which = "is not in the onnxruntime that is installed" if name in known else "is unknown to onnxruntime"
            raise MissingProvider(f"the execution provider '{name}' {which}, which has: {', '.join(sorted(here))}")
    return [here[name] for name in wanted] + ([] if _short(CPU) in wanted else [CPU])


def is_cpu_only(providers: Sequence[str]) -> bool:
    """Whether a model with these providers runs on the processor alone."""
    return all(_short(name) == _short(CPU) for name in providers)


def _require_started(session: onnxruntime.InferenceSession, names: list[str]) -> None:
    """onnxruntime leaves out a provider that does not start, and writes of it in its log alone. MissingProvider."""
    if lost := [name for name in names if name not in session.get_providers()]:
        text = f"the execution provider '{_short(lost[0])}' does not start: are its device, driver and libraries there?"
        raise MissingProvider(text)


def _short(provider: str) -> str:
    return provider.lower().removesuffix(SUFFIX.lower())
