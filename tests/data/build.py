"""Makes the graphs beside it, as a user of scikit-learn and skl2onnx would: `python -m tests.data.build` in the environment of
`make models`. They are committed, so that the tests need neither.

matrix_zipmap  3 floats in one input, string label and a map of probabilities
matrix_plain   the same with zipmap=False
mixed          2 floats and 2 strings in inputs of their own; its encoder refuses categories it does not know (the default)
words          a text to tf-idf to a label; asks for the locale en_US.UTF-8
classes        3 floats in one input, a label of 0, 1 or 2 and probabilities
targets        3 floats in one input, two labels and a sequence of the probabilities of each (tests/publishing/targets.py)
targets_words  the same with words as labels
"""

from pathlib import Path

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.publishing.targets import ROWS, classifier

HERE = Path(__file__).parent


def main() -> None:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(60, 3)).astype(np.float32)
    labels = np.where(numbers[:, 0] > 0, "yes", "no")
    model = LogisticRegression().fit(numbers, labels)
    save("matrix_zipmap", to_onnx(model, numbers[:1]))
    save("matrix_plain", to_onnx(model, numbers[:1], options={"zipmap": False}))
    table = pd.DataFrame({"age": numbers[:, 0], "fare": numbers[:, 1]})
    table["sex"], table["town"] = random.choice(["f", "m"], 60), random.choice(["Hull", "York", "Wells"], 60)
    columns = [("numbers", StandardScaler(), ["age", "fare"]), ("words", OneHotEncoder(), ["sex", "town"])]
    save("mixed", to_onnx(make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(table, labels), table[:1]))
    texts, kinds = ["good film", "bad film", "nice one", "awful thing"] * 5, [1, 0, 1, 0] * 5
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, kinds)
    save("words", to_onnx(words, initial_types=[("text", StringTensorType([None, 1]))]))
    save_classes()


def save_classes() -> None:
    plain = {"zipmap": False}
    save("classes", to_onnx(LogisticRegression().fit(ROWS, np.arange(60) % 3), ROWS[:1], options=plain))
    for name, are_words in (("targets", False), ("targets_words", True)):
        save(name, to_onnx(classifier(are_words=are_words), ROWS[:1], options=plain))


def save(name: str, model: object) -> None:
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
