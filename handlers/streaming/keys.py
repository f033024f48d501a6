"""The typed keys of the application that only the streaming surface needs."""

from dataclasses import dataclass

from aiohttp import web

from engine.streaming.predictions import Predictions


@dataclass(frozen=True, slots=True)
class StreamingLimits:
    """What this surface is held to. Settings of server/config.py, by the same names; an idle timeout of 0 means never."""

    body_limit_bytes: int
    line_limit_bytes: int
    decoded_limit_bytes: int
    arrow_batch_limit_bytes: int
    idle_timeout_s: float
    stall_timeout_s: float
    times: str


PREDICTIONS = web.AppKey("predictions", Predictions)
STREAMING_LIMITS = web.AppKey("streaming_limits", StreamingLimits)
