"""Logs: one line per event on stderr, as text with fields key=value, or as a JSON object. Never a key, a token, a record or a query
string."""

import datetime
import json
import logging
import os
import re
import sys
import threading
from types import TracebackType
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# A value in the text of a log call, with the name of its field if it has one: `%s`, `model=%s`, `seconds=%.3f`.
PLACEHOLDER = re.compile(r"(?:(\w+)=)?%(?:%|[-+ #0]*\d*(?:\.\d+)?[a-zA-Z])")
# Tells the replicas, which write tracebacks to the same stderr (engine/tasks/reports.py).
FORMAT_VARIABLE = "SLUICE_LOG_FORMAT"

log = logging.getLogger("sluice.server")


class JsonFormatter(logging.Formatter):
    """One JSON object for each event: its time in UTC, level, logger and message, the fields of the message, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        event: dict[str, Any] = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if fields := fields_of(record):
            event["fields"] = fields
        if record.exc_info and record.exc_info[0] is not None:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The values that the message names as key=value. Numbers stay numbers; an infinity, which JSON does not have, is a text."""
    found = [placeholder for placeholder in PLACEHOLDER.finditer(str(record.msg)) if not placeholder[0].endswith("%%")]
    arguments = record.args if isinstance(record.args, tuple) else ()
    if len(found) != len(arguments):
        return {}
    return {one[1]: _value(argument) for one, argument in zip(found, arguments, strict=True) if one[1]}


def _value(argument: object) -> object:
    is_plain = argument is None or type(argument) in (bool, int, str) or (type(argument) is float and abs(argument) < float("inf"))
    return argument if is_plain else str(argument)


class ClientFaults(logging.Filter):
    """Logs one line without a traceback when a client sends something that is not HTTP: that is the client's fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "request is not HTTP kind=%s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


def configure(level: str, log_format: str = "text") -> None:
    """Set up logging for the process, as text or as json: then whatever Python writes to stderr is an event, too."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr, force=True)
    os.environ[FORMAT_VARIABLE] = log_format
    if log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
        logging.captureWarnings(True)
        sys.excepthook = _log_end
        threading.excepthook = _log_end_of_thread
    logging.getLogger("aiohttp.server").addFilter(ClientFaults())
    # aiohttp.websocket logs the names of unknown subprotocols, and some clients put a key there.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # At DEBUG aiosqlite logs every statement with its parameters: key hashes, and more than anybody can read.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    # asyncio logs "Using selector" and the like at lower levels, which helps nobody who reads our log.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _log_end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    log.critical("process ended by a fault", exc_info=(kind, error, where))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    log.error("thread ended by a fault", exc_info=ended.exc_value or True)
