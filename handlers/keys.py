"""The typed keys under which the application carries what handlers need."""

from aiohttp import web

from engine.accounts import Accounts
from engine.engine import Engine
from engine.repository import Repository

ENGINE = web.AppKey("engine", Engine)
ACCOUNTS = web.AppKey("accounts", Accounts)
REPOSITORY = web.AppKey("repository", Repository)
COMPAT_STATUS = web.AppKey("compat_status", bool)
ANONYMOUS = web.AppKey("anonymous", frozenset)
