"""Serves the iris graph with FastAPI on two workers of uvicorn, for comparison: `python fastapi_server.py PORT`.

fastapi and uvicorn must be installed. One record per request, read and checked by pydantic, as the documentation of FastAPI shows.
"""

import sys
from typing import Any

import uvicorn
from bare_iris import open_session, score
from fastapi import FastAPI
from pydantic import BaseModel

WORKERS = 2

app = FastAPI()
session = open_session()


class Flower(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


@app.get("/health")
async def health() -> str:
    return "ok"


@app.post("/predict")
async def predict(flower: Flower) -> dict[str, Any]:
    return score(session, [flower.model_dump()])[0]


if __name__ == "__main__":
    uvicorn.run("fastapi_server:app", host="127.0.0.1", port=int(sys.argv[1]), workers=WORKERS, log_level="error", access_log=False)
