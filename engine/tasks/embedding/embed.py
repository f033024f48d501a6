"""The task `embed`: bodies of requests become vectors, or lines of texts to be divided; and such lines become vectors.

The replica that gets bodies reads them. The short lists it embeds at once, all in the same runs; a long one, or one for a
model it has not open, it gives back as lines, of which every replica then takes some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.frames import Buffer, Header, cut
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.embedding.reading import (
    BodyFault,
    BodyLimits,
    Choice,
    Request,
    TokenIds,
    num_bytes,
    read_lines,
    read_openai,
    read_simple,
    write_lines,
)
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.text import Tokens, UnknownToken
from engine.tasks.stages import Stages

READERS = {"simple": read_simple, "openai": read_openai}
# Digits and a comma.
BYTES_PER_ID = 5


@dataclass(slots=True)
class Part:
    """What is said about one block: the header of its part, and its bytes."""

    part: Header
    pieces: list[bytes]


@dataclass(slots=True)
class TextsToEmbed:
    """Inputs of one request, or some of them, that are embedded now.

    told  what the header of their part says besides
    """

    model: Embedder
    tokens: list[Tokens]
    form: Form
    told: Header


def embed(models: Mapping[str, Scorer], header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """One frame: bodies, or with `model` in the header lines.

    header   of bodies: `shape`, `models` (name -> Choice), `limits`; of lines: `model`, `encoding_format`, `dimensions`, `truncate`
    returns  for each `refused` with `message`, `param` and the JSON of the answer; or `sizes`, `num_tokens`, `num_cut` and the JSON
             of each vector; or, for a body alone, `lines` with what to put into the header of these lines
    """
    stages = Stages()
    plans = [_planned(models, header, bytes(raw), stages) for raw in cut(payload, header["sizes"])]
    answers = _answered(plans, stages)
    for answer in answers:
        answer.part["size"] = sum(map(len, answer.pieces))
    num_texts = sum(len(answer.part.get("sizes", ())) for answer in answers)
    reply = {"results": num_texts, "errors": 0, **stages.report(), "parts": [answer.part for answer in answers]}
    return reply, [piece for answer in answers for piece in answer.pieces]


def _planned(models: Mapping[str, Scorer], header: Header, raw: bytes, stages: Stages) -> Part | TextsToEmbed:
    try:
        if "model" in header:
            return _plan_of_lines(models[header["model"]], header, raw, stages)
        return _plan_of_body(models, header, raw, stages)
    except BodyFault as fault:
        return Part({"refused": fault.code, "message": fault.message, "param": fault.param}, [fault.detail])


# What is to be done


def _plan_of_lines(model: Scorer, header: Header, raw: bytes, stages: Stages) -> TextsToEmbed:
    inputs = read_lines(raw)
    stages.ended("parse")
    return _work(_embedder(model), inputs, Form.of(header), {}, stages, may_cut=header["truncate"])


def _plan_of_body(models: Mapping[str, Scorer], header: Header, raw: bytes, stages: Stages) -> Part | TextsToEmbed:
    choices = {name: Choice(*choice) for name, choice in header["models"].items()}
    limits = BodyLimits(**header["limits"])
    request = READERS[header["shape"]](raw, choices, limits)
    choice = choices[request.model]
    stages.ended("parse")
    units = sum(min(choice.record_bytes, _num_bytes(one)) for one in request.inputs)
    is_short = len(request.inputs) <= 1 or units <= choice.at_once
    model = models.get(choice.key)
    if model is not None:
        _refuse_early(_embedder(model), request, limits)
    if model is None or not is_short:
        part = {"name": request.model, "lines": len(request.inputs), "arguments": _arguments(request)}
        return Part(part, [write_lines(request.inputs)])
    form = Form(False, request.is_base64, request.dimensions)
    told = {"name": request.model, "units": max(1, units)}
    return _work(_embedder(model), request.inputs, form, told, stages, may_cut=request.truncate)


def _num_bytes(one: str | TokenIds) -> int:
    """About as many as its line will have: the unit in which costs are learned."""
    return num_bytes(one) if isinstance(one, str) else BYTES_PER_ID * len(one)


def _arguments(request: Request) -> Header:
    """What the header of the lines says, beside the model."""
    encoding = "base64" if request.is_base64 else "float"
    return {"encoding_format": encoding, "dimensions": request.dimensions, "truncate": request.truncate}


def _embedder(model: Scorer) -> Embedder:
    if not isinstance(model, Embedder):
        raise TypeError("this is a bug: only embedding models are offered to requests for embeddings")
    return model


def _work(model: Embedder, inputs: Sequence[Any], form: Form, told: Header, stages: Stages, *, may_cut: bool) -> TextsToEmbed:
    """The inputs as tokens. BodyFault `invalid_token`, `context_length_exceeded`."""
    tokens = _tokenise(model, inputs)
    stages.ended("tokenise")
    if not may_cut and any(is_cut for _, is_cut in tokens):
        text = f"An input is longer than the {model.text.max_tokens} tokens that the model takes; send 'truncate': true to cut it."
        raise BodyFault("context_length_exceeded", text, param="input")
    return TextsToEmbed(model, tokens, form, told)


def _tokenise(model: Embedder, inputs: Sequence[Any]) -> list[Tokens]:
    """Texts or lists of ids. BodyFault `invalid_token`."""
    if not inputs or isinstance(inputs[0], str):
        return model.text.tokenise(list(inputs))
    try:
        return list(map(model.text.from_ids, inputs))
    except UnknownToken as unknown:
        text = (
            f"Token id {unknown.token} is not in the vocabulary of this model: ids must come from its own tokenizer. "
            "LangChain sends those of another one unless it is told check_embedding_ctx_length=False."
        )
        raise BodyFault("invalid_token", text, param="input") from None


def _refuse_early(model: Embedder, request: Request, limits: BodyLimits) -> None:
    """What would be found only after much work. BodyFault `invalid_token`, `context_length_exceeded` for all inputs together.

    Texts are tokenised for it only where their length does not rule out that they have too many tokens.
    """
    longest = model.text.max_tokens
    is_ids = bool(request.inputs) and not isinstance(request.inputs[0], str)
    if not is_ids and sum(min(longest, _most_tokens(one)) for one in request.inputs) <= limits.tokens:
        return
    num_tokens = sum(len(ids) for ids, _ in _tokenise(model, request.inputs))
    if num_tokens > limits.tokens:
        text = f"The inputs have {num_tokens} tokens; one request takes {limits.tokens}."
        raise BodyFault("context_length_exceeded", text, param="input")


def _most_tokens(one: str | TokenIds) -> int:
    """A token holds a character at least, and two more are special."""
    return len(one) + 2


# Doing it


def _answered(plans: Sequence[Part | TextsToEmbed], stages: Stages) -> list[Part]:
    """An answer for each; what goes through the same model goes through it together."""
    works = [plan for plan in plans if isinstance(plan, TextsToEmbed)]
    vectors = {id(model): _vectors(model, works, stages) for model in dict.fromkeys(work.model for work in works)}
    stages.ended("infer")
    answers = [plan if isinstance(plan, Part) else _part_of(plan, vectors[id(plan.model)].pop(0)) for plan in plans]
    stages.ended("encode")
    num_tokens = sum(len(ids) for work in works for ids, _ in work.tokens)
    for answer in answers:
        if "num_tokens" in answer.part:
            _add_times(answer.part, sum(answer.part["num_tokens"]) / max(1, num_tokens), stages)
    return answers


def _vectors(model: Embedder, works: Sequence[TextsToEmbed], stages: Stages) -> list[np.ndarray]:
    """float32 [inputs, dim] of each piece of work for this model."""
    ours = [work.tokens for work in works if work.model is model]
    together = model.vectors([tokens for one in ours for tokens in one], stages)
    return np.split(together, np.cumsum(list(map(len, ours)))[:-1])


def _part_of(work: TextsToEmbed, vectors: np.ndarray) -> Part:
    pieces = work.model.encoded(vectors, work.form)
    part = {
        "sizes": list(map(len, pieces)),
        "num_tokens": [len(ids) for ids, _ in work.tokens],
        "num_cut": sum(is_cut for _, is_cut in work.tokens),
    }
    return Part(work.told | part, pieces)


def _add_times(part: Header, share: float, stages: Stages) -> None:
    """Seconds of the stages as the sender saw them, and as this part's share of them counts."""
    part["seconds"] = stages.seconds
    part |= stages.report() | {"stages": {stage: seconds * share for stage, seconds in stages.seconds.items()}}
