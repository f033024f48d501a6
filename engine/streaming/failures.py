"""Why a stream ends before its end: the codes of its last line, and the exception that carries one."""

from engine.errors import DISK_FULL, INTERNAL, MODEL_OFFLINE, SHUTTING_DOWN, Code, Kind
from engine.repository.serving import MODEL_REMOVED

IDLE_TIMEOUT = Code("idle_timeout", Kind.TOO_SLOW, "the upload stopped for SLUICE_IDLE_TIMEOUT_S")
STALLED = Code("stalled", Kind.TOO_SLOW, "the client took no byte for SLUICE_STALL_TIMEOUT_S")
SPILL_FULL = Code("spill_full", Kind.TOO_SLOW, "the client takes no byte and the spill is full")
BAD_ENCODING = Code("bad_encoding", Kind.MALFORMED, "the encoded body is broken or cut short")
BAD_ARROW = Code("bad_arrow", Kind.MALFORMED, "the body is not an Arrow stream, or one that cannot be read")
TOO_LARGE = Code("too_large", Kind.TOO_LARGE, "the body decodes to more than SLUICE_DECODED_LIMIT_BYTES")
NO_REPLICA = Code("no_replica", Kind.UNAVAILABLE, "no replica has been alive for 30 seconds")
KEY_REVOKED = Code("key_revoked", Kind.UNIDENTIFIED, "the key or token of the stream has ended, or the role that it needs")

STREAM_CODES = (
    IDLE_TIMEOUT,
    STALLED,
    SPILL_FULL,
    SHUTTING_DOWN,
    BAD_ENCODING,
    BAD_ARROW,
    TOO_LARGE,
    NO_REPLICA,
    DISK_FULL,
    KEY_REVOKED,
    MODEL_OFFLINE,
    MODEL_REMOVED,
    INTERNAL,
)


class StreamFailure(Exception):
    """A stream ended before its end, for one of STREAM_CODES.

    message  one sentence for the client; the sentence of the code unless there is more to say
    """

    def __init__(self, code: Code, message: str | None = None) -> None:
        super().__init__(message or code.text)
        self.code = code
        self.message = message or code.text
