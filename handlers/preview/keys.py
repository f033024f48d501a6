"""The typed keys under which the application carries what preview needs, and what a request is known to be about."""

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from engine.accounts import Caller
from engine.errors import Code, Kind
from engine.preview.pages import Pages
from engine.preview.preview import Preview
from engine.preview.queue import Hooks
from engine.preview.reports import Reports
from engine.preview.tasks import PreviewFolders

MISSING_PARAMETER = Code("missing_parameter", Kind.MALFORMED, "a parameter that the path needs is missing or empty")

PREVIEW = web.AppKey("preview", Preview)
PAGES = web.AppKey("pages", Pages)
REPORTS = web.AppKey("reports", Reports)
HOOKS = web.AppKey("hooks", Hooks)
FOLDERS = web.AppKey("preview_folders", PreviewFolders)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How answers are marked. Settings of server/config.py, by the same names."""

    max_age_long_seconds: int
    max_age_short_seconds: int
    preview_not_found_status: int
    preview_status_case: Literal["upper", "lower"]
    preview_tracebacks: Literal["admin", "all", "none"]
    webhook_secret: str | None


OPTIONS = web.AppKey("preview_options", AnswerOptions)
CALLER = web.RequestKey("preview_caller", Caller)
# The request is about a dataset that only some may see.
IS_PRIVATE = web.RequestKey("preview_is_private", bool)
