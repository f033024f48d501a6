"""Sends the hostile statements of tests/data to a server, again and again: `python -m tests.bench.hostile_caller URL USER KEY`."""

import sys
import threading
from pathlib import Path

import requests

from tests.query.statements import hostile

AT_ONCE = 2


def send(url: str, auth: tuple[str, str], statements: list[str]) -> None:
    with requests.Session() as session:
        session.auth = auth
        while True:
            for text in statements:
                session.post(f"{url}/api/query/v1", json={"query": text, "dataset": "admin/rows"}, timeout=120)


def main(url: str, user: str, key: str) -> None:
    statements = hostile(Path("/nonexistent/canary.csv"))
    callers = [threading.Thread(target=send, args=(url, (user, key), statements[i::AT_ONCE])) for i in range(AT_ONCE)]
    for caller in callers:
        caller.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
