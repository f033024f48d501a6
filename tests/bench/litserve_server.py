"""Serves the iris graph with LitServe, for comparison: `python litserve_server.py PORT single|many`. litserve must be installed.

single  one record per request; LitServe makes batches of up to 512
many    512 records per request
"""

import sys
from typing import Any

import litserve
from bare_iris import open_session, score

BATCH = 512
WORKERS = 2


class Single(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return score(self.session, inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


class Many(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"results": score(self.session, request["records"])}


def main() -> None:
    api = Single(max_batch_size=BATCH, batch_timeout=0.001) if sys.argv[2] == "single" else Many()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
