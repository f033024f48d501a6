"""Serves sentence-transformers as in a script by hand: `python sentence_transformers_server.py PORT MODEL_FOLDER`.

POST /embeddings {"model", "input"} answers in the OpenAI shape, with numbers. One thread encodes, because one process has one
model; torch computes on two threads. sentence-transformers, aiohttp and orjson must be installed.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ["HF_HUB_OFFLINE"] = "1"  # read when sentence_transformers is imported

import orjson
import torch
from aiohttp import web
from sentence_transformers import SentenceTransformer

THREADS = 2
BATCH = 32
BODY_LIMIT_BYTES = 32 * 1024 * 1024


def embed(model: SentenceTransformer, body: bytes) -> bytes:
    """The body of the answer to the body of a request."""
    request = orjson.loads(body)
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    vectors = model.encode(texts, batch_size=BATCH, show_progress_bar=False)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    answer = {"object": "list", "data": data, "model": request["model"]}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def main() -> None:
    port, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(THREADS)
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    executor = ThreadPoolExecutor(max_workers=1)

    async def embeddings(request: web.Request) -> web.Response:
        body = await asyncio.get_running_loop().run_in_executor(executor, embed, model, await request.read())
        return web.Response(body=body, content_type="application/json")

    async def health(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(client_max_size=BODY_LIMIT_BYTES)
    app.add_routes([web.post("/embeddings", embeddings), web.get("/health", health)])
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
