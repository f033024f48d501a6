"""The family `hub`: datasets of a hub, looked up and fetched over its HTTP API. The only replica that opens connections does this.

What a hub says is hostile, as files of datasets are: names of files are checked, sizes are held to, and the token goes to the
endpoint alone. Every task takes one header and answers with one header. Common fields of what is asked:
    endpoint  address of the hub, without a slash at its end
    token     text or null
and of every answer, instead of what the task gives:
    unreachable  the hub did not answer, or not as a hub: it may do so later. The text names no address

`hub_find`: one dataset.
    asked   name; folder: null, or absolute path of the folder for datasets of hubs
    gives   dataset: null, or {"name", "root", "revision": 40 hex, "private": bool, "card": null}, as `scan` of the family `preview`
                gives it. With a folder, README.md and the list of all files lie in `<root>/<name>`, where `root` is
                `<folder>/<revision>`; without one, `root` is empty

`hub_fetch`: files of a dataset that `hub_find` has found.
    asked   name, revision, root; files: [[path, size]]; head_bytes: 0, or how much of each file is wanted
    gives   fetched: number of bytes; refused: null, or why a file cannot be had

`hub_list`: the datasets of a hub.
    asked   known: names that are not wanted; limit: the most names that are
    gives   names: those of the hub's own list that can be names here, in its order
"""

from collections.abc import Callable

from engine.frames import Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.hub import datasets
from engine.tasks.hub.client import Client, Unreachable

Work = Callable[[Client, Header], Header]


def tasks(families: Families) -> dict[str, TaskFunction]:
    """All tasks, as the docstring of this file says."""
    works: dict[str, Work] = {"hub_find": datasets.find, "hub_fetch": datasets.fetch, "hub_list": datasets.listed}
    return {name: _task(work) for name, work in works.items()}


def _task(work: Work) -> TaskFunction:
    def run(header: Header, payload: memoryview) -> Reply:
        try:
            with Client(header["endpoint"], header["token"]) as client:
                told = work(client, header)
        except Unreachable as error:
            told = {"unreachable": str(error)}
        return {"parts": [{**told, "size": 0}]}, []

    return run
