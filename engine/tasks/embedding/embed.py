"""The task `embed`: request bodies become vectors, or lines for later blocks; lines of such blocks become vectors.

The replica that gets request bodies reads them. It embeds the short lists at once, all in the same runs. A long list, and a list
for a model that this replica has not opened, go back to the server as lines, which it divides among all replicas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.frames import Buffer, Header, cut
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.embedding.reading import (
    OTHER_TOKENIZER,
    AcceptedBody,
    BodyFault,
    BodyLimits,
    Choice,
    TokenIds,
    num_bytes,
    read_lines,
    read_openai,
    read_simple,
    write_lines,
)
from engine.tasks.embedding.tei import read_tei
from engine.tasks.scoring.loaded import LoadedModels
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.text import Tokens, UnknownToken
from engine.tasks.stages import Stages

READERS = {"simple": read_simple, "openai": read_openai, "tei": read_tei}
# A token id takes four digits and a comma in its line.
BYTES_PER_ID = 5


@dataclass(slots=True)
class Part:
    """The answer for one block: the header of its part, and its bytes."""

    header: Header
    pieces: list[bytes]


@dataclass(slots=True)
class TextsToEmbed:
    """The inputs of one block, which this frame embeds.

    told  what the header of its part says besides the vectors' sizes and counts
    """

    model: Embedder
    tokens: list[Tokens]
    form: Form
    told: Header


def embed(models: LoadedModels, header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """Answer one frame: request bodies or, if the header names a `model`, lines. LoadFailed if that model is not open.

    header   of bodies: `shape`, `models` (name -> Choice), `limits`, perhaps `careful` (embed nothing at once);
             of lines: `model`, `encoding_format`, `dimensions`, `truncate`
    returns  a part for each block. Of a refused one: `refused`, `message`, `param`, and the JSON of the answer as its bytes. Of an
             embedded one: `sizes`, `num_tokens`, `num_cut`, and the JSON of each vector. Of a body to be divided: `lines` (their
             number), `arguments` for the header of the blocks they will travel in, and the lines.
    """
    stages = Stages()
    plans = [_planned(models, header, bytes(raw), stages) for raw in cut(payload, header["sizes"])]
    parts = _embedded_together(plans, stages)
    for part in parts:
        part.header["size"] = sum(map(len, part.pieces))
    num_texts = sum(len(part.header.get("sizes", ())) for part in parts)
    reply = {"results": num_texts, "errors": 0, **stages.report(), "parts": [part.header for part in parts]}
    return reply, [piece for part in parts for piece in part.pieces]


def _planned(models: LoadedModels, header: Header, raw: bytes, stages: Stages) -> Part | TextsToEmbed:
    """What to embed for one block, or the answer if there is nothing to embed here."""
    try:
        if "model" in header:
            return _plan_of_lines(models.require(header["model"]), header, raw, stages)
        return _plan_of_body(models, header, raw, stages)
    except BodyFault as fault:
        return Part({"refused": fault.code, "message": fault.message, "param": fault.param}, [fault.detail])


# Reading the blocks


def _plan_of_lines(model: Scorer, header: Header, raw: bytes, stages: Stages) -> TextsToEmbed:
    inputs = read_lines(raw)
    stages.ended("parse")
    return _tokenised(_embedder(model), inputs, Form.of(header), {}, stages, may_cut=header["truncate"])


def _plan_of_body(models: LoadedModels, header: Header, raw: bytes, stages: Stages) -> Part | TextsToEmbed:
    choices = {name: Choice(*choice) for name, choice in header["models"].items()}
    limits = BodyLimits(**header["limits"])
    body = READERS[header["shape"]](raw, choices, limits)
    choice = choices[body.model]
    stages.ended("parse")
    units = sum(min(choice.record_bytes, _line_bytes(one)) for one in body.inputs)
    is_short = len(body.inputs) <= 1 or units <= choice.at_once
    is_left_to_blocks = choice.at_once < 0 or header.get("careful", False)
    model = None if is_left_to_blocks else models.find(choice.key)
    if model is not None:
        _refuse_early(_embedder(model), body, limits)
    if model is None or not is_short:
        part = {"name": body.model, "lines": len(body.inputs), "arguments": _arguments(body)}
        return Part(part, [write_lines(body.inputs)])
    form = Form.of(_arguments(body))
    told = {"name": body.model, "units": max(1, units)}
    return _tokenised(_embedder(model), body.inputs, form, told, stages, may_cut=body.truncate)


def _line_bytes(one: str | TokenIds) -> int:
    """About the size of the line that an input would become: the server learns the costs of a model in this unit."""
    return num_bytes(one) if isinstance(one, str) else BYTES_PER_ID * len(one)


def _arguments(body: AcceptedBody) -> Header:
    """What the header of the lines says, beside the model."""
    encoding = "base64" if body.is_base64 else "float"
    arguments: Header = {"encoding_format": encoding, "dimensions": body.dimensions, "truncate": body.truncate}
    return arguments | ({"normalise": True} if body.normalise else {})


def _embedder(model: Scorer) -> Embedder:
    if not isinstance(model, Embedder):
        raise TypeError("this is a bug: only embedding models are offered to requests for embeddings")
    return model


def _tokenised(model: Embedder, inputs: Sequence[Any], form: Form, told: Header, stages: Stages, *, may_cut: bool) -> TextsToEmbed:
    """The inputs as tokens. BodyFault `invalid_token`, `context_length_exceeded`."""
    tokens = _tokens(model, inputs)
    stages.ended("tokenise")
    if not may_cut and any(is_cut for _, is_cut in tokens):
        text = f"An input is longer than the {model.text.max_tokens} tokens that the model takes; send 'truncate': true to cut it."
        raise BodyFault("context_length_exceeded", text, param="input")
    return TextsToEmbed(model, tokens, form, told)


def _tokens(model: Embedder, inputs: Sequence[Any]) -> list[Tokens]:
    """The tokens of each text, or of each list of ids. BodyFault `invalid_token`."""
    if not inputs or isinstance(inputs[0], str):
        return model.text.tokenise(list(inputs))
    try:
        return list(map(model.text.from_ids, inputs))
    except UnknownToken as unknown:
        text = (
            f"Token id {unknown.token} is not in the vocabulary of this model: ids must come from its own tokenizer. "
            f"{OTHER_TOKENIZER}"
        )
        raise BodyFault("invalid_token", text, param="input") from None


def _refuse_early(model: Embedder, body: AcceptedBody, limits: BodyLimits) -> None:
    """Refuse a body now whose faults would show only after much work: a BodyFault as from `_tokens`, or for too many tokens in all.

    Texts are tokenised for this only if their characters could hold too many tokens.
    """
    longest = model.text.max_tokens
    is_ids = bool(body.inputs) and not isinstance(body.inputs[0], str)
    if not is_ids and sum(min(longest, _most_tokens(one)) for one in body.inputs) <= limits.tokens:
        return
    num_tokens = sum(len(ids) for ids, _ in _tokens(model, body.inputs))
    if num_tokens > limits.tokens:
        text = f"The inputs have {num_tokens} tokens; one request takes {limits.tokens}."
        raise BodyFault("context_length_exceeded", text, param="input")


def _most_tokens(one: str | TokenIds) -> int:
    """A token holds at least one character, and two more are special."""
    return len(one) + 2


# Embedding what they hold


def _embedded_together(plans: Sequence[Part | TextsToEmbed], stages: Stages) -> list[Part]:
    """A part for each plan, in order; all texts for the same model go through it together."""
    waiting = [plan for plan in plans if isinstance(plan, TextsToEmbed)]
    vectors = {id(model): _vectors(model, waiting, stages) for model in dict.fromkeys(texts.model for texts in waiting)}
    stages.ended("infer")
    parts = [plan if isinstance(plan, Part) else _vectors_part(plan, vectors[id(plan.model)].pop(0)) for plan in plans]
    stages.ended("encode")
    num_tokens = sum(len(ids) for texts in waiting for ids, _ in texts.tokens)
    for part in parts:
        if "num_tokens" in part.header:
            _add_times(part.header, sum(part.header["num_tokens"]) / max(1, num_tokens), stages)
    return parts


def _vectors(model: Embedder, waiting: Sequence[TextsToEmbed], stages: Stages) -> list[np.ndarray]:
    """float32 [inputs, dim] for each block that waits for this model."""
    ours = [texts.tokens for texts in waiting if texts.model is model]
    together = model.vectors([tokens for one in ours for tokens in one], stages)
    return np.split(together, np.cumsum(list(map(len, ours)))[:-1])


def _vectors_part(texts: TextsToEmbed, vectors: np.ndarray) -> Part:
    pieces = texts.model.encoded(vectors, texts.form)
    counts = {
        "sizes": list(map(len, pieces)),
        "num_tokens": [len(ids) for ids, _ in texts.tokens],
        "num_cut": sum(is_cut for _, is_cut in texts.tokens),
    }
    return Part(texts.told | counts, pieces)


def _add_times(part: Header, share: float, stages: Stages) -> None:
    """Add `seconds` of each stage, as long as the sender waited, and `stages`, this part's share of them, which is its cost."""
    part["seconds"] = stages.seconds
    part |= stages.report() | {"stages": {stage: seconds * share for stage, seconds in stages.seconds.items()}}
