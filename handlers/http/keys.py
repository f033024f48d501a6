"""The typed keys under which the application carries what several surfaces need. A surface keeps the keys that only it needs."""

import asyncio

from aiohttp import web

from engine.accounts import Accounts
from engine.engine import Engine
from engine.jobs import Jobs
from engine.repository.index import Repository
from engine.repository.publishing import Publisher
from engine.repository.serving import Serving
from engine.teams import Teams

ENGINE = web.AppKey("engine", Engine)
ACCOUNTS = web.AppKey("accounts", Accounts)
TEAMS = web.AppKey("teams", Teams)
REPOSITORY = web.AppKey("repository", Repository)
SERVING = web.AppKey("serving", Serving)
JOBS = web.AppKey("jobs", Jobs)
PUBLISHER = web.AppKey("publisher", Publisher)
# What /healthcheck tells beside the health of the engine: name -> a function that gives the value of this moment.
HEALTH_DETAILS = web.AppKey("health_details", dict)
# The turn to do a step of work that is too long to do at once, such as decoding a body. One request has it at a time, so one round
# of the event loop waits for one step, however many requests need such work.
TURN = web.AppKey("turn", asyncio.Lock)

# Settings of server/config.py, by the same names.
ANONYMOUS = web.AppKey("anonymous", frozenset)
COMPAT_STATUS = web.AppKey("compat_status", bool)
PUBLIC_URL = web.AppKey[str | None]("public_url")
REQUEST_TIMEOUT = web.AppKey("request_timeout_s", float)
IDLE_TIMEOUT = web.AppKey("idle_timeout_s", float)  # 0 means never
UPLOAD_TIMEOUT = web.AppKey("upload_timeout_s", float)
