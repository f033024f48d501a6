"""The block `plan`: what does a body need before its query can run? Knows no dataset."""

import time

from engine.frames import Header
from engine.tasks.families import Reply
from engine.tasks.query import asked
from engine.tasks.query.refusals import Refused
from engine.tasks.query.tql import Trees


def plan(header: Header, payload: memoryview, trees: Trees) -> Reply:
    """The answer to one body.

    header   workspace: the org of names without one, or None; max_timeout_ms, text_bytes: limits of the server
    payload  the body
    trees    of the texts that the replica read last
    returns  {"timeout_ms", "format", "explain", "sources", "texts", "hash", "seconds"}, or {"refused", "seconds"}:
             sources  [{"name": in the text, "source": for the catalogue, "position"}]
             texts    [{"text", "model": as written or None, "column": that it is compared with or None, "position"}]
    """
    started = time.perf_counter()
    try:
        read = asked.read(payload, header, trees)
        try:
            answer = read.needs()
        except Refused as refused:
            answer = {"refused": read.report(refused)}
    except asked.RefusedText as refused_text:
        answer = {"refused": refused_text.report}
    return {"parts": [{"size": 0, "seconds": {"parse": time.perf_counter() - started}, **answer}]}, []
