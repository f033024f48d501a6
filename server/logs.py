"""Logs: one line an event, fields as key=value, on stderr. Never a key, a token, a record or a query string."""

import logging
import sys

from aiohttp.http_exceptions import HttpProcessingError

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class ClientFaults(logging.Filter):
    """Garbage that a client sent in place of HTTP is its fault: one line, no traceback."""

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
    # Warns of subprotocols it does not know, by their names: some clients put a key there.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # Says "Using selector" and the like; nobody reading our story needs it.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
