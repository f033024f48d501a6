"""Errors: every code the engine can raise or a result line can carry, once, with its sentence.

Three kinds, three ways. Of one record: an error line in its place (RECORD_CODES). Of a request before its first byte: an
EngineError, whose code becomes a status at the edge (REQUEST_CODES). Of a stream after its first byte: a last line, then a cut
(STREAM_CODES). Knows no HTTP: statuses live in handlers/errors.py.
"""

RECORD_CODES = {
    "invalid_json": "the line is not JSON",
    "not_an_object": "the line is JSON, but not an object",
    "line_too_long": "the line is longer than SLUICE_LINE_LIMIT_BYTES (send a file with --data-binary, one object per line)",
    "missing_field": "a field the model needs is absent or null",
    "wrong_type": "a field has a type the model does not take",
    "out_of_range": "a number does not fit the model's type",
    "wrong_length": "a list has not the number of values the model takes",
    "invalid_yhat_id": "yhat_id is not a string or a number, or is longer than 1,024 characters",
    "model_failed": "the model itself failed on this record",
    "timeout": "the model gave no answer for this record within SLUICE_BLOCK_TIMEOUT_S",
}

REQUEST_CODES = {
    "no_credentials": "no credentials were sent",
    "unauthorized": "the user or the key is wrong",
    "full_key_needed": "a read-only key cannot do this",
    "forbidden": "this caller may not do this",
    "not_found": "there is no such path",
    "model_not_found": "there is no such model, or the caller may not see it",
    "method_not_allowed": "the path does not take this method",
    "unsupported_media_type": "the content type or encoding is not accepted",
    "expectation_failed": "Expect names something other than 100-continue",
    "invalid_body": "the body could not be decoded",
    "body_too_large": "the body is larger than SLUICE_BODY_LIMIT_BYTES, or SLUICE_MODEL_LIMIT_BYTES when publishing",
    "invalid_request": "a field of the request is missing or wrong",
    "invalid_parameter": "a parameter of the query, or a field of a /v1/embeddings request, is missing or wrong",
    "too_many_inputs": "an embeddings request has more than SLUICE_EMBED_MAX_INPUTS texts",
    "context_length_exceeded": "the texts have more than SLUICE_EMBED_MAX_TOKENS tokens, or one that must not be cut is too long",
    "invalid_token": "a token id is not in the vocabulary of the model",
    "name_taken": "the name is reserved or in use",
    "invalid_model": "the uploaded files make no model that can be served",
    "load_failed": "a version that passed its check does not load in a replica; the active version is as it was",
    "shipped_model": "a model that ships with the server cannot be deleted or shared otherwise",
    "active_version": "the active version of a model cannot be deleted alone",
    "too_many_streams": "SLUICE_MAX_STREAMS or SLUICE_MAX_STREAMS_PER_USER streams are running",
    "too_many_requests": "SLUICE_MAX_QUEUED requests are waiting",
    "shutting_down": "the server is draining",
    "no_instances": "no replica is alive, or the model's files do not load",
    "model_building": "the model is still loading after SLUICE_LOAD_TIMEOUT_S",
    "timed_out": "no answer came within SLUICE_REQUEST_TIMEOUT_S",
    "internal": "a fault of the server",
}

STREAM_CODES = {
    "idle_timeout": "the upload stopped for SLUICE_IDLE_TIMEOUT_S",
    "stalled": "the client took no byte for SLUICE_STALL_TIMEOUT_S",
    "spill_full": "the client takes no byte and the spill is full",
    "shutting_down": "the server stopped before the stream ended",
    "bad_encoding": "the encoded body is broken or cut short",
    "too_large": "the body decodes to more than SLUICE_DECODED_LIMIT_BYTES",
    "no_replica": "no replica has been alive for 30 seconds",
    "internal": "a fault of the server",
}


class EngineError(Exception):
    """Something the caller should hear: a code of this file and one sentence for the person who can act on it.

    retry_after_s  seconds after which the same request may succeed, or None
    """

    def __init__(self, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class RefusedBody(EngineError):
    """A replica read the body of a request and refused it.

    param   the field that is wrong, or None for the body
    detail  the JSON of the whole answer, where the shape of the request has more to say than a message; else empty
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, detail: bytes = b"") -> None:
        super().__init__(code, message)
        self.param = param
        self.detail = detail


class TaskFailed(EngineError):
    """A block was given up: it cost as many replicas as its task allows, or ran past its time limit.

    is_timeout  it ran past its time limit
    """

    def __init__(self, *, is_timeout: bool) -> None:
        super().__init__("internal", "the server failed on this request")
        self.is_timeout = is_timeout


class StreamFailure(Exception):
    """Why a stream ended before its end: a code of STREAM_CODES and one sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
