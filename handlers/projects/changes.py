"""What is done to objects of every kind in the same way: they are cancelled, made active, removed."""

from aiohttp import web

from engine.projects.objects import ONLY_SLOT, Object, ObjectKind, Project
from engine.projects.removal import Removal
from handlers.projects.answers import OBJECTS, iid_of

REMOVAL = web.AppKey("removal", Removal)


async def cancel(request: web.Request, project: Project, kind: ObjectKind) -> Object:
    """Cancel the object of the path. EngineError `unknown_...`, `already_finished`."""
    return await request.app[OBJECTS].cancel(project, kind, iid_of(request, kind))


async def activate(request: web.Request, project: Project, kind: ObjectKind, slot: str = ONLY_SLOT) -> Object:
    """Make the object of the path the active one of its slot. EngineError `unknown_...`, `not_complete`."""
    return await request.app[OBJECTS].activate(project, kind, iid_of(request, kind), slot)


async def remove(request: web.Request, project: Project, kind: ObjectKind) -> web.Response:
    """Remove the object of the path, with its files. EngineError `unknown_...`, `in_use`."""
    name = await request.app[OBJECTS].delete(project, kind, iid_of(request, kind))
    await request.app[REMOVAL].remove(name)
    return web.Response(status=204)
