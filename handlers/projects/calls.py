"""The calls that objects of every kind have: they are made, listed, shown, made active, cancelled and removed.

Each route stands here once, with its handler where that is the same. The file of a kind says in an `ObjectCalls` what differs.
Knows no kind by name.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from engine.projects.objects import ONLY_SLOT, Object, ObjectKind, Project
from engine.roles import Role
from handlers.http.routes import Handler, Route
from handlers.projects.admission import admit, key_of, key_of_maker, needs
from handlers.projects.answers import OBJECTS, iid_of, listed
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY
from handlers.projects.projects import BAD_BODY, NO_ROOM, REFUSALS, REMOVAL


async def _nothing_more(request: web.Request, found: Object) -> None:
    """What most kinds do after a change."""


def _only_slot(found: Object) -> str:
    return ONLY_SLOT


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCalls:
    """What is particular to the objects of one kind in the calls that all kinds have.

    path          of all of them, below the base
    one           what a sentence calls one, such as `a dataset`
    about         what is shown of one, for its summary
    doing         what its job does, such as `reading`
    kept_because  why one may not be removed
    role          that makes, cancels and removes them
    shown         one as an answer
    fields        what a list tells of one beside the common fields
    reply         what an answer with one holds, for the documentation; list_reply: with a list of them
    active_in     of what one is the active one, such as `its project`; None where none can be active
    slot_of       the slot that one takes when it becomes active
    activated     called after that
    cancelled     called after a cancel
    """

    kind: ObjectKind
    path: str
    one: str
    about: str
    doing: str
    kept_because: str
    role: Role
    shown: Callable[[web.Request, Object], web.Response]
    fields: Callable[[Object], Mapping[str, Any]]
    reply: object
    list_reply: object
    active_in: str | None = None
    slot_of: Callable[[Object], str] = _only_slot
    activated: Callable[[web.Request, Object], Awaitable[None]] = _nothing_more
    cancelled: Callable[[web.Request, Object], Awaitable[None]] = _nothing_more

    # Handlers

    async def list(self, request: web.Request) -> web.Response:
        """Those of a project, newest first."""
        return await listed(request, await admit(request, Role.OBSERVER), self.kind, self.fields)

    async def show(self, request: web.Request) -> web.Response:
        """One of them."""
        return self.shown(request, await self._found(request, await admit(request, Role.OBSERVER)))

    async def activate(self, request: web.Request) -> web.Response:
        """Make one the active one of its slot. EngineError `unknown_...`, `not_complete`."""
        project = await admit(request, Role.MANAGER)
        slot = self.slot_of(await self._found(request, project))
        found = await request.app[OBJECTS].activate(project, self.kind, iid_of(request, self.kind), slot)
        await self.activated(request, found)
        return self.shown(request, found)

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop its job. EngineError `unknown_...`, `already_finished`."""
        project = await admit(request, self.role)
        found = await request.app[OBJECTS].cancel(project, self.kind, iid_of(request, self.kind))
        await self.cancelled(request, found)
        return self.shown(request, found)

    async def remove(self, request: web.Request) -> web.Response:
        """Remove one, with its files. EngineError `unknown_...`, `in_use`."""
        project = await admit(request, self.role)
        name = await request.app[OBJECTS].delete(project, self.kind, iid_of(request, self.kind))
        await request.app[REMOVAL].remove(name)
        return web.Response(status=204)

    async def _found(self, request: web.Request, project: Project) -> Object:
        return await request.app[OBJECTS].get(project, self.kind, iid_of(request, self.kind))

    # Routes

    @property
    def noun(self) -> str:
        """`dataset`, where `one` is `a dataset`."""
        return self.one.partition(" ")[2]

    @property
    def one_path(self) -> str:
        """The path of one of them."""
        return f"{self.path}/{{iid}}"

    def make_route(self, handler: Handler, body: type[BaseModel], summary: str, *, of: str, path: str | None = None) -> Route:
        """The route of a call that makes one.

        of    what must be complete, such as `the dataset`
        path  that of all of them without it
        """
        return Route(
            method="POST",
            path=path or self.path,
            handler=handler,
            surface=SURFACE,
            summary=summary,
            key=key_of(self.role) if self.active_in is None else key_of_maker(self.role),
            body=body,
            answers={201: f"the new {self.noun}", 409: f"{of} is not complete"} | NO_ROOM | REFUSALS | BAD_BODY,
            reply=self.reply,
            admit=needs(self.role),
        )

    def active_route(self, handler: Handler, summary: str, answer: str, reply: object) -> Route:
        """The route of what is active. reply: what its answer holds."""
        return Route(
            method="GET",
            path=f"{self.path}/active",
            handler=handler,
            surface=SURFACE,
            summary=summary,
            key=key_of(Role.OBSERVER),
            answers={200: answer} | REFUSALS,
            reply=reply,
            admit=needs(Role.OBSERVER),
        )

    def list_route(self) -> Route:
        """The route of the list."""
        return Route(
            method="GET",
            path=self.path,
            handler=self.list,
            surface=SURFACE,
            summary=f"the {self.noun}s of a project, newest first",
            key=key_of(Role.OBSERVER),
            query=LIST_QUERY,
            answers={200: f"the {self.noun}s", 422: "a parameter is wrong"} | REFUSALS,
            reply=self.list_reply,
            admit=needs(Role.OBSERVER),
        )

    def routes_of_one(self) -> tuple[Route, ...]:
        """The routes of one of them; those of fixed words below the same path come before these."""
        show = Route(
            method="GET",
            path=self.one_path,
            handler=self.show,
            surface=SURFACE,
            summary=f"{self.one}, {self.about}",
            key=key_of(Role.OBSERVER),
            answers={200: f"the {self.noun}"} | REFUSALS,
            reply=self.reply,
            admit=needs(Role.OBSERVER),
        )
        return show, *self._activate_routes(), self._cancel_route(), self._remove_route()

    def _activate_routes(self) -> tuple[Route, ...]:
        """Both verbs do the same: scripts use either."""
        if self.active_in is None:
            return ()
        post = Route(
            method="POST",
            path=f"{self.one_path}/activate",
            handler=self.activate,
            surface=SURFACE,
            summary=f"make {self.one} the active one of {self.active_in}",
            key=key_of(Role.MANAGER),
            answers={200: f"the {self.noun}", 409: "it is not complete"} | REFUSALS,
            reply=self.reply,
            admit=needs(Role.MANAGER),
        )
        return post, replace(post, method="PATCH")

    def _cancel_route(self) -> Route:
        return Route(
            method="POST",
            path=f"{self.one_path}/cancel",
            handler=self.cancel,
            surface=SURFACE,
            summary=f"stop {self.doing} {self.one}",
            key=key_of(self.role),
            answers={200: f"the {self.noun}", 409: "it is finished already"} | REFUSALS,
            reply=self.reply,
            admit=needs(self.role),
        )

    def _remove_route(self) -> Route:
        return Route(
            method="DELETE",
            path=self.one_path,
            handler=self.remove,
            surface=SURFACE,
            summary=f"remove {self.one}",
            key=key_of(self.role),
            answers={204: "it is gone", 409: self.kept_because} | REFUSALS,
            admit=needs(self.role),
        )
