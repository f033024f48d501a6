"""The codes of queries: what a replica says against a text or its data, by their words, and what this surface says itself."""

from typing import Any

from engine.datasets.catalogue import DATASET_NOT_FOUND
from engine.datasets.names import BAD_NAME
from engine.datasets.work import TYPE_MISMATCH
from engine.errors import (
    BODY_TOO_LARGE,
    INTERNAL,
    INVALID_BODY,
    INVALID_PARAMETER,
    MODEL_NOT_FOUND,
    UNKNOWN_FIELD,
    Code,
    DetailedError,
    EngineError,
    Kind,
    TaskFailed,
    by_word,
)

TOO_MANY_QUERIES = Code(
    "too_many_queries",
    Kind.OVERLOADED,
    "SLUICE_QUERY_QUEUE queries are waiting, or the user has SLUICE_QUERY_PER_USER open; see Retry-After",
)
TIMEOUT = Code("timeout", Kind.EXPIRED, "the query passed its timeout_ms")
OUT_OF_MEMORY = Code("out_of_memory", Kind.INVALID, "the query needs more than SLUICE_QUERY_MEMORY_BYTES, or killed its process")

# What a report may say beside its code and its message.
DETAILS = ("position", "hint")
# What a replica may say against a query, by its word.
QUERY_CODES = by_word(
    BODY_TOO_LARGE,
    DATASET_NOT_FOUND,
    INVALID_BODY,
    INVALID_PARAMETER,
    MODEL_NOT_FOUND,
    OUT_OF_MEMORY,
    UNKNOWN_FIELD,
    Code("syntax_error", Kind.MALFORMED, "the text is not a query"),
    Code("unsupported", Kind.MALFORMED, "the text has something that the language knows but this server does not do"),
    Code("one_statement", Kind.MALFORMED, "the text has several statements"),
    Code("only_select", Kind.MALFORMED, "the statement is not a SELECT"),
    Code("unknown_column", Kind.MALFORMED, "no source has the column"),
    Code("ambiguous_column", Kind.MALFORMED, "several sources have the column"),
    Code("duplicate_column", Kind.MALFORMED, "two columns of the result have the same name"),
    Code("unknown_function", Kind.MALFORMED, "there is no such function"),
    TYPE_MISMATCH,
    Code("dimension_mismatch", Kind.MALFORMED, "two vectors differ in their numbers of dimensions"),
    Code("unknown_label", Kind.MALFORMED, "the class column has no such label"),
    Code("bad_param", Kind.MALFORMED, "a parameter is missing, unused or of the wrong kind"),
    Code("bad_vector", Kind.MALFORMED, "a vector is empty, uneven, not finite or not readable"),
    Code("arithmetic_error", Kind.MALFORMED, "a number does not fit its type, or a cast failed"),
    Code("too_complex", Kind.MALFORMED, "the query is larger than a limit of the language, or its join has too many rows"),
    Code("result_too_large", Kind.MALFORMED, "the result is larger than one answer may be"),
    BAD_NAME,
)


def refused(report: dict[str, Any]) -> DetailedError:
    """The error for what a replica says in the header of its answer: `code`, `message`, perhaps `position` and `hint`."""
    details: dict[str, Any] = {key: report[key] for key in DETAILS if key in report}
    return DetailedError(QUERY_CODES.get(report["code"], INTERNAL), report["message"], details)


def late(timeout_s: float) -> EngineError:
    return EngineError(TIMEOUT, f"The query passed its limit of {timeout_s * 1000:.0f} ms.")


def failed(error: EngineError, timeout_s: float) -> EngineError:
    """What the caller hears when a block was given up: a replica that died has most likely run out of memory."""
    if isinstance(error, TaskFailed) and error.is_timeout:
        return late(timeout_s)
    if isinstance(error, TaskFailed) and error.is_lost:
        return EngineError(OUT_OF_MEMORY, "The query needs more memory than a query may have.")
    return error
