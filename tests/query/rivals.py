"""The programs that our answers are compared with, in an environment of their own: `make rivals` makes it.

As a program (`python rivals.py deeplake|bm25s`, run by that environment) it reads a question in JSON from stdin and writes the
answer to stdout. The functions run it from the tests' environment.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).resolve().parent.parent.parent / ".venv-rivals" / "bin" / "python"
TIMEOUT_S = 300


def are_installed() -> bool:
    return PYTHON.with_name("pip").exists() and any(PYTHON.parent.parent.glob("lib/python*/site-packages/deeplake"))


def ask_rival(name: str, question: dict[str, Any]) -> Any:
    """The answer of one rival to one question."""
    command = [str(PYTHON), __file__, name]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# What runs in the environment of the rivals


def answer_deeplake(question: dict[str, Any]) -> list[Any]:
    """Rows of each query, as lists of values; {"error": text} where deeplake refuses it.

    question  {"types": {column: name of a type, or the dimension of a vector}, "rows": [...], "queries": [...]}
    """
    import deeplake  # only in that environment
    import numpy as np

    types = deeplake.types
    kinds = {"int": types.Int64(), "float": types.Float64(), "text": types.Text(), "list": types.Array("int64", 1)}
    dataset = deeplake.create("mem://compared")
    for name, kind in question["types"].items():
        known = types.Embedding(kind) if isinstance(kind, int) else types.Dict() if kind == "json" else kinds[kind]
        dataset.add_column(name, known)
    arrays = {name for name, kind in question["types"].items() if kind == "list" or isinstance(kind, int)}
    rows = question["rows"]
    dataset.append({name: [np.array(row[name]) if name in arrays else row[name] for row in rows] for name in question["types"]})
    dataset.commit()
    return [_deeplake_rows(dataset, query) for query in question["queries"]]


def _deeplake_rows(dataset: Any, query: str) -> Any:
    try:
        view = dataset.query(query)
        names = [column.name for column in view.schema.columns]
        columns = [[_plain(value) for value in view[name][:]] for name in names]
    except Exception as error:  # deeplake has no class of errors of its own for a query
        return {"error": str(error)[:300]}
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, list | tuple) else value


def answer_bm25s(question: dict[str, Any]) -> list[list[float]]:
    """The scores of all texts for each question: {"texts": [[word, ...], ...], "questions": [[word, ...], ...]}."""
    import bm25s  # only in that environment

    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    model.index(question["texts"], show_progress=False)
    return [[float(score) for score in model.get_scores(words)] for words in question["questions"]]


if __name__ == "__main__":
    answers = {"deeplake": answer_deeplake, "bm25s": answer_bm25s}
    print(json.dumps(answers[sys.argv[1]](json.load(sys.stdin))))
