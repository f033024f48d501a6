"""The task `embed`: a request's body becomes vectors, or lines of texts to be divided; and such lines become vectors.

The replica that gets a body reads it. A short list it embeds at once; a long one, or one for a model it has not open, it gives back
as lines, of which every replica then takes some.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.frames import Buffer, Header
from engine.tasks.embedder import Embedder
from engine.tasks.model import Scorer
from engine.tasks.outputs import Form
from engine.tasks.requests import (
    Choice,
    Ids,
    Limits,
    Request,
    Unacceptable,
    read_lines,
    read_openai,
    read_simple,
    write_lines,
)
from engine.tasks.stages import Stages
from engine.tasks.text import Tokens, UnknownToken

READERS = {"simple": read_simple, "openai": read_openai}

# Digits and a comma.
BYTES_PER_ID = 5

Reply = tuple[Header, list[Buffer]]


def embed(models: Mapping[str, Scorer], header: Header, payload: memoryview) -> Reply:
    """One frame: a body, or with `model` in the header lines.

    header   of a body: `shape`, `models` (name -> Choice), `limits`; of lines: `model`, `encoding_format`, `dimensions`, `truncate`
    returns  `refused` with `message`, `param` and the JSON of the answer; or `sizes`, `num_tokens`, `num_cut` and the JSON of each
             vector; or, for a body alone, `lines` with what to put into the header of these lines
    """
    stages = Stages()
    try:
        if "model" in header:
            part, answer = _embed_lines(models[header["model"]], header, bytes(payload), stages)
        else:
            part, answer = _embed_body(models, header, bytes(payload), stages)
    except Unacceptable as fault:
        part, answer = {"refused": fault.code, "message": fault.message, "param": fault.param}, [fault.detail]
    part["size"] = sum(map(len, answer))
    num_texts = len(part.get("sizes", ()))
    return {"results": num_texts, "errors": 0, **stages.report(), "parts": [part]}, answer


def _embed_lines(model: Scorer, header: Header, raw: bytes, stages: Stages) -> tuple[Header, list[Buffer]]:
    inputs = read_lines(raw)
    stages.ended("parse")
    return _embed_inputs(_embedder(model), inputs, Form.of(header), stages, may_cut=header["truncate"])


def _embed_body(models: Mapping[str, Scorer], header: Header, raw: bytes, stages: Stages) -> tuple[Header, list[Buffer]]:
    choices = {name: Choice(*choice) for name, choice in header["models"].items()}
    limits = Limits(**header["limits"])
    request = READERS[header["shape"]](raw, choices, limits)
    choice = choices[request.model]
    stages.ended("parse")
    told = {"name": request.model, "key": choice.key}
    is_short = len(request.inputs) <= 1 or sum(map(_num_bytes, request.inputs)) <= choice.at_once
    model = models.get(choice.key)
    if model is not None:
        _refuse_many_tokens(_embedder(model), request, limits)
    if model is None or not is_short:
        return told | {"lines": len(request.inputs), "arguments": _arguments(request)}, [write_lines(request.inputs)]
    form = Form(False, request.is_base64, request.dimensions)
    part, answer = _embed_inputs(_embedder(model), request.inputs, form, stages, may_cut=request.truncate)
    return told | part, answer


def _num_bytes(one: str | Ids) -> int:
    """About as many as its line will have."""
    return len(one) if isinstance(one, str) else BYTES_PER_ID * len(one)


def _arguments(request: Request) -> Header:
    """What the header of the lines says, beside the model."""
    encoding = "base64" if request.is_base64 else "float"
    return {"encoding_format": encoding, "dimensions": request.dimensions, "truncate": request.truncate}


def _embedder(model: Scorer) -> Embedder:
    if not isinstance(model, Embedder):
        raise TypeError("this is a bug: only embedding models are offered to requests for embeddings")
    return model


def _embed_inputs(
    model: Embedder, inputs: Sequence[Any], form: Form, stages: Stages, *, may_cut: bool
) -> tuple[Header, list[Buffer]]:
    """The JSON of each vector, and what was seen of each input."""
    tokens = _tokenise(model, inputs)
    num_cut = sum(is_cut for _, is_cut in tokens)
    if num_cut and not may_cut:
        text = f"An input is longer than the {model.text.max_tokens} tokens that the model takes; send 'truncate': true to cut it."
        raise Unacceptable("context_length_exceeded", text, param="input")
    stages.ended("tokenise")
    pieces = model.encoded(tokens, form, stages) if tokens else []
    stages.ended("encode")
    part = {"sizes": list(map(len, pieces)), "num_tokens": [len(ids) for ids, _ in tokens], "num_cut": num_cut}
    return part | stages.report(), [b"".join(pieces)]


def _tokenise(model: Embedder, inputs: Sequence[Any]) -> list[Tokens]:
    """Texts or lists of ids. Unacceptable `invalid_token`."""
    if not inputs or isinstance(inputs[0], str):
        return model.text.tokenise(list(inputs))
    try:
        return list(map(model.text.from_ids, inputs))
    except UnknownToken as unknown:
        text = (
            f"Token id {unknown.token} is not in the vocabulary of this model: ids must come from its own tokenizer. "
            "LangChain sends those of another one unless it is told check_embedding_ctx_length=False."
        )
        raise Unacceptable("invalid_token", text, param="input") from None


def _refuse_many_tokens(model: Embedder, request: Request, limits: Limits) -> None:
    """Unacceptable when the inputs have too many tokens in all. They are counted only where their length does not rule it out."""
    longest = model.text.max_tokens
    most = sum(min(longest, _most_tokens(one)) for one in request.inputs)
    if most <= limits.tokens:
        return
    num_tokens = sum(len(ids) for ids, _ in _tokenise(model, request.inputs))
    if num_tokens > limits.tokens:
        raise too_many_tokens(num_tokens, limits)


def _most_tokens(one: str | Ids) -> int:
    """A token holds a character at least, and two more are special."""
    return len(one) + 2


def too_many_tokens(num_tokens: int, limits: Limits) -> Unacceptable:
    text = f"The inputs have {num_tokens} tokens; one request takes {limits.tokens}."
    return Unacceptable("context_length_exceeded", text, param="input")
