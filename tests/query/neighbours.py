"""Another caller, who must be answered whatever somebody else asks."""

import threading
import time

import requests

from tests.query.asking import API, TIMEOUT_S
from tests.serving import Server

GOOD = 'select id, cosine_similarity(vec, ARRAY[1, 0]) as s from "admin/books" where id > 0 order by s desc limit 3'


class Neighbour:
    """Asks a small question again and again until the block ends, and keeps how long each answer took."""

    def __init__(self, server: Server) -> None:
        self.seconds: list[float] = []
        self.faults: list[str] = []
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Neighbour":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            session.auth = self._server.auth
            while not self._stopped.wait(0.02):
                started = time.monotonic()
                answer = session.post(self._server.url + API, json={"query": GOOD}, timeout=TIMEOUT_S)
                self.seconds.append(time.monotonic() - started)
                if answer.status_code != 200:
                    self.faults.append(answer.text)
