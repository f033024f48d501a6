"""The family `publishing`: files that people bring become models. Imports the library for graphs, which no other family needs."""

from engine.frames import Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.publishing import check, convert, probing


def tasks(families: Families) -> dict[str, TaskFunction]:
    """check: may an uploaded model be served, and how? import: a folder of sentence-transformers becomes a model.

    providers: can models be opened on these?
    """

    def check_upload(header: Header, payload: memoryview) -> Reply:
        return check.check(header), []

    def import_folder(header: Header, payload: memoryview) -> Reply:
        return convert.import_folder(header), []

    def probe_providers(header: Header, payload: memoryview) -> Reply:
        return probing.probe(header), []

    return {"check": check_upload, "import": import_folder, "providers": probe_providers}
