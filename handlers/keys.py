"""The typed keys under which the application carries what handlers need."""

from aiohttp import web

from engine.accounts import Accounts
from engine.engine import Engine
from engine.repository.index import Repository
from engine.repository.listed import ListedModels
from engine.repository.publishing import Publisher
from handlers.streaming.bulk import BulkOptions

ENGINE = web.AppKey("engine", Engine)
ACCOUNTS = web.AppKey("accounts", Accounts)
REPOSITORY = web.AppKey("repository", Repository)
PUBLISHER = web.AppKey("publisher", Publisher)
BULK_OPTIONS = web.AppKey("bulk_options", BulkOptions)
BODY_LIMIT = web.AppKey("body_limit_bytes", int)
REQUEST_TIMEOUT = web.AppKey("request_timeout_s", float)
COMPAT_STATUS = web.AppKey("compat_status", bool)
ANONYMOUS = web.AppKey("anonymous", frozenset)
ROUTES = web.AppKey("routes", list)
LISTING = web.AppKey("listing", ListedModels)
EMBED_BODY_LIMIT = web.AppKey("embed_body_limit_bytes", int)
# Path prefix -> the shape of a refusal below it; everywhere else it is that of handlers/errors.py.
SHAPES = web.AppKey("shapes", dict)
