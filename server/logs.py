"""Logs: one line per event on stderr, fields as key=value. Never a key, a token, a record or a query string."""

import logging
import sys

from aiohttp.http_exceptions import HttpProcessingError

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class ClientFaults(logging.Filter):
    """Logs one line without a traceback when a client sends something that is not HTTP: that is the client's fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "request is not HTTP kind=%s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


def configure(level: str) -> None:
    """Set up logging for the process."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr, force=True)
    logging.getLogger("aiohttp.server").addFilter(ClientFaults())
    # aiohttp.websocket logs the names of unknown subprotocols, and some clients put a key there.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # At DEBUG aiosqlite logs every statement with its parameters: key hashes, and more than anybody can read.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    # asyncio logs "Using selector" and the like at lower levels, which helps nobody who reads our log.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
