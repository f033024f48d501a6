"""The answer to one record as bytes: what is the same in the heads of all of them is encoded once."""

import functools
from collections.abc import Mapping

from aiohttp import hdrs

from engine.streaming.predictions import Prediction
from handlers.http.encoded import encoded_head

# Of every result, with what the server adds to every answer (handlers/http/origins.py).
SAME = {hdrs.CONTENT_TYPE: "application/json", "X-Content-Type-Options": "nosniff"}
TIMES = ("X-Queue-Time", "X-Inference-Time", "X-Total-Time")
# What differs from one result to the next.
OTHER = "".join(f"{name}: %.3f\r\n" for name in TIMES).encode() + b"Content-Length: %d\r\n"


class Result:
    """The answer to one record, encoded, with how long it took in milliseconds."""

    __slots__ = ("_times", "body", "head", "status")

    def __init__(self, status: int, prediction: Prediction) -> None:
        self.status = status
        self.body = prediction.body + b"\n"  # so that a shell shows its prompt on the next line
        self._times = (prediction.queue_s * 1000, prediction.infer_s * 1000, prediction.total_s * 1000)
        self.head = _same_head(status) + OTHER % (*self._times, len(self.body))

    def headers(self) -> Mapping[str, str]:
        return SAME | {name: f"{milliseconds:.3f}" for name, milliseconds in zip(TIMES, self._times, strict=True)}


@functools.cache
def _same_head(status: int) -> bytes:
    return encoded_head(status, SAME)
