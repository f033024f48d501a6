"""Uploads over HTTP: a form with one file becomes an upload of a project, which a job then reads.

Decides who may send, and whether there is room, before a byte of the body is read.
"""

from typing import Any

from aiohttp import BodyPartReader, web

from engine.errors import INVALID_BODY, UNKNOWN_FIELD, EngineError
from engine.projects.codes import EXTRA_FILE, NO_FILE
from engine.projects.objects import Object, Project
from engine.projects.uploads import ArrivingFile, ProjectUploads, type_of
from engine.roles import Role
from handlers.http import forms
from handlers.http.auth import while_valid
from handlers.http.bodies import content_encoding
from handlers.http.encodings import PLAIN
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE
from handlers.http.keys import ACCOUNTS
from handlers.http.routes import FormBody, Route
from handlers.http.uploads import within_upload_timeout
from handlers.projects.admission import CALLER, RIGHT, admit, admit_again, key_of
from handlers.projects.answers import shown
from handlers.projects.calls import ObjectCalls
from handlers.projects.errors import SURFACE
from handlers.projects.projects import NO_ROOM, PROJECT, REFUSALS
from handlers.projects.shapes import ListedUpload, UploadedFile

UPLOADS = web.AppKey("project_uploads", ProjectUploads)
ADMITTED = web.RequestKey("admitted_upload", Project)
FILE_FIELD = "file"
RESULT = ("Layout", "Rows", "Frequency", "Combinations", "FirstDate", "LastDate")


async def admit_file(request: web.Request) -> Project:
    """Check who sends, what for, and whether there is room, as far as the head tells. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if ADMITTED not in request:
        project = await admit(request, Role.DATA_MANAGER)
        type_of(request.query.get("dataset_name"))
        if request.content_type != forms.FORM:
            raise _no_file()
        if content_encoding(request) not in PLAIN:
            raise EngineError(UNSUPPORTED_MEDIA_TYPE, "Send the form without Content-Encoding.")
        least_bytes = max(0, (request.content_length or 0) - forms.FORM_BYTES)
        await request.app[UPLOADS].check_room(project.team, least_bytes)
        request[ADMITTED] = project
    return request[ADMITTED]


async def send_file(request: web.Request) -> web.Response:
    """Take a file. It is on the disk when the answer comes."""
    project = await admit_file(request)
    uploads, caller = request.app[UPLOADS], request[CALLER]
    async with uploads.arriving(project.team) as arriving:
        await _receive_while_admitted(request, arriving)
        name = type_of(request.query.get("dataset_name"))
        made = await uploads.create(project, name, arriving, created_by=caller.name)
    return _shown(request, made, status=201)


async def _receive_while_admitted(request: web.Request, arriving: ArrivingFile) -> None:
    """Read the form, until what the request rests on ends. EngineError: those of `_receive` and of the admission."""
    caller, right = request[CALLER], request[RIGHT]
    try:
        async with while_valid(request, caller, right):
            await _receive(request, arriving)
        await request.app[ACCOUNTS].confirm(caller, right)
    except EngineError:
        await admit_again(request)  # it says better what has ended, if that was the reason
        raise


async def _receive(request: web.Request, arriving: ArrivingFile) -> None:
    """Read the form, which has one file. EngineError `no_file`, `extra_file`, `unknown_field`, those of the file."""
    is_there = False
    try:
        async with within_upload_timeout(request):
            form = await forms.opened(request)
            while (part := await forms.next_part(request, form)) is not None:
                _check_part(part, is_there)
                is_there = True
                await request.app[UPLOADS].receive(arriving, part.filename or "", forms.part_chunks(request, part))
    except web.RequestPayloadError:
        raise _no_file() from None
    except EngineError as error:
        raise _no_file() if error.code is INVALID_BODY else error from None
    if not is_there:
        raise _no_file()


def _check_part(part: BodyPartReader, is_there: bool) -> None:
    """Whether a part may be the file. is_there: the file has come already."""
    if part.name == FILE_FIELD and not is_there:
        return
    if part.name is None:
        raise _no_file()
    if part.name == FILE_FIELD or part.filename is not None:
        raise EngineError(EXTRA_FILE, f"Send one file, in the field `{FILE_FIELD}`.")
    raise EngineError(UNKNOWN_FIELD, f"The form has one field, `{FILE_FIELD}`.")


def _no_file() -> EngineError:
    return EngineError(NO_FILE, f"Send a whole multipart/form-data body with the field `{FILE_FIELD}`.")


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    fields = _fields(found)
    name = fields.pop("DatasetName")
    return shown(request, found, fields, result={"DatasetName": name} | dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    return {
        "upload_id": found.iid,
        "DatasetName": found.request["dataset_name"],
        "FileName": found.request["file_name"],
        "Bytes": found.request["bytes"],
    }


# Routes

PATH = PROJECT + "/datauploads"
CALLS = ObjectCalls(
    kind="upload",
    path=PATH,
    one="an upload",
    about="and what was found in its file",
    doing="reading",
    kept_because="a dataset was made of it",
    role=Role.DATA_MANAGER,
    shown=_shown,
    fields=_fields,
    reply=UploadedFile,
    list_reply=list[ListedUpload],
)
UPLOAD_ANSWERS = {
    201: "the upload, which will be read",
    413: "the file is larger than SLUICE_PROJECT_UPLOAD_LIMIT_BYTES",
    415: "the body has a Content-Encoding",
    422: "dataset_name is missing or not a name, or the form does not have one file",
    503: "the upload stopped or took too long, or the server is shutting down",
}
ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=send_file,
        surface=SURFACE,
        summary="send a CSV file or a workbook",
        key=key_of(Role.DATA_MANAGER),
        body=FormBody({FILE_FIELD: "a CSV file in UTF-8, or a workbook (.xlsx) of one sheet without formulas"}, (FILE_FIELD,)),
        query={"dataset_name": "the type of data: Sales, Media, Events, ... or a name of your own"},
        answers=UPLOAD_ANSWERS | NO_ROOM | REFUSALS,
        reply=UploadedFile,
        admit=admit_file,
    ),
    CALLS.list_route(),
    *CALLS.routes_of_one(),
)
