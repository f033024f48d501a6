"""Reads bodies in the shape `tei`, that of Text Embeddings Inference: `inputs`, and beside them how the vectors are wanted."""

from collections.abc import Mapping

from engine.tasks import codec
from engine.tasks.codec import NotJson
from engine.tasks.embedding.reading import AcceptedBody, BodyFault, BodyLimits, Choice, optional_field, read_inputs, wrong_field


def read_tei(raw: bytes, models: Mapping[str, Choice], limits: BodyLimits) -> AcceptedBody:
    """Read a body of the shape `tei`; other keys are ignored.

    models  the one model that the path means
    raises  BodyFault `invalid_body`, `invalid_parameter`, `invalid_token`, `too_many_inputs`
    """
    try:
        body = codec.parse_json(raw)
    except NotJson as fault:
        raise BodyFault("invalid_body", f"The body is not JSON: {fault.reason} (byte {fault.offset}).") from None
    if not isinstance(body, dict):
        raise BodyFault("invalid_body", "The body must be a JSON object with 'inputs'.")
    [(name, choice)] = models.items()
    inputs = read_inputs(body, "inputs", limits)
    truncate = optional_field(body, "truncate", bool, "true or false")
    normalise = optional_field(body, "normalize", bool, "true or false")
    dimensions = optional_field(body, "dimensions", int, "an integer")
    if dimensions is not None and not 1 <= dimensions <= choice.dim:
        raise wrong_field("dimensions", f"between 1 and {choice.dim}")
    if optional_field(body, "prompt_name", str, "a string") is not None:
        raise wrong_field("prompt_name", "absent: this server keeps no prompts, so put the prompt before the text")
    if (optional_field(body, "truncation_direction", str, "a string") or "right").lower() != "right":
        raise wrong_field("truncation_direction", "'Right': texts are cut at their end")
    return AcceptedBody(name, inputs, False, dimensions, truncate is not False, normalise is not False)
