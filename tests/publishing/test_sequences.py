"""Outputs that are sequences of tensors, as classifiers of several targets have them, and labels that fit their outputs."""

from typing import Any

import numpy as np
import pytest

from tests.clients import bulk, ndjson
from tests.publishing import uploads
from tests.publishing.asking import predict, put, refused
from tests.publishing.uploads import DATA, FLOAT, model, node, value
from tests.serving import Server

PLAIN, CLASSES, TARGETS = ((DATA / f"{name}.onnx").read_bytes() for name in ("matrix_plain", "classes", "targets"))


@pytest.mark.parametrize("name", ["targets_words", "targets"])
def test_a_classifier_of_several_targets_works_without_a_config(house: Server, name: str) -> None:
    """Each line agrees with scikit-learn: a list of classes, and a list with the probabilities of each target."""
    from tests.publishing.targets import ROWS, classifier  # scikit-learn takes two seconds

    fitted = classifier(are_words=name == "targets_words")
    answer = put(house, "admin/targets", (DATA / f"{name}.onnx").read_bytes())
    assert (answer.status_code, answer.json().get("warnings")) == (201, None)
    lines = bulk(house, "admin/targets", ndjson({"X": row.tolist()} for row in ROWS), "&ordered=true").lines
    results = [line["result"] for line in lines]
    assert [result["label"] for result in results] == fitted.predict(ROWS).tolist()
    for target, expected in enumerate(fitted.predict_proba(ROWS)):
        assert np.array([result["probabilities"][target] for result in results]) == pytest.approx(expected, abs=1e-5)
    # A record that is scored alone may get other last digits than beside others.
    alone = predict(house, "admin/targets", X=ROWS[0].tolist())["result"]
    assert (alone.keys(), alone["label"]) == (results[0].keys(), results[0]["label"])
    for one, other in zip(alone["probabilities"], results[0]["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_targets_of_a_sequence_can_have_names(house: Server) -> None:
    entry = {"output": "probabilities", "labels": ["size", "colour"], "form": "object"}
    assert put(house, "admin/named", TARGETS, config={"outputs": [entry]}).status_code == 201
    plain = predict(house, "admin/targets", X=[1, 1, 1])["result"]["probabilities"]
    assert predict(house, "admin/named", X=[1, 1, 1])["result"]["probabilities"] == {"size": plain[0], "colour": plain[1]}


def test_a_sequence_whose_tensors_have_no_record_each_is_refused(house: Server) -> None:
    nodes = [node("SequenceConstruct", ["x", "total"], ["s"]), node("ReduceSum", ["x"], ["total"], keepdims=1)]
    sequence = uploads.helper.make_tensor_sequence_value_info("s", FLOAT, None)
    reason = refused(put(house, "admin/sums", model(nodes[::-1], [uploads.X], [sequence])), 422)
    assert reason == "output 's' has 1 results for 2 records: its batch axis does not follow"


# Labels


def labelled(output: str, labels: Any, **options: Any) -> dict[str, Any]:
    return {"outputs": [{"output": output, "labels": labels, **options}]}


THREE = ["a", "b", "c"]
MISFITS = {
    "too few columns": (
        PLAIN,
        labelled("probabilities", ["no"], form="object"),
        "'probabilities' has 2 columns, config gives it 1",
    ),
    "too many columns": (PLAIN, labelled("probabilities", THREE), "'probabilities' has 2 columns, config gives it 3 labels"),
    "a map with a gap": (
        PLAIN,
        labelled("probabilities", {"0": "no", "2": "yes"}, form="object"),
        "'probabilities' has 2 columns, config labels 0, 2: they are counted from 0",
    ),
    "too few classes": (CLASSES, labelled("label", ["a", "b"]), "'label' has 3 classes, config gives it 2 labels"),
    "too many classes": (CLASSES, labelled("label", [*THREE, "d"]), "'label' has 3 classes, config gives it 4 labels"),
    "a class without a name": (CLASSES, labelled("label", {"0": "a", "1": "b"}), "'label' gives the class 2, for which"),
    "words": (PLAIN, labelled("label", ["no", "yes"]), "'label' is a tensor(string), and a list of labels names integers"),
    "a map of its own": (
        (DATA / "matrix_zipmap.onnx").read_bytes(),
        labelled("output_probability", ["no", "yes"]),
        "'output_probability' has the names of its classes as keys: leave its labels out",
    ),
    "tensors": (
        TARGETS,
        labelled("probabilities", ["a"], form="object"),
        "'probabilities' is a sequence of 2 tensors, config gives",
    ),
    "columns of open number": (
        uploads.identities(("X", FLOAT, ("N", "k"))),
        labelled("X_out", ["a", "b"]) | {"example": {"X": [1, 2, 3]}},
        "'X_out' has 3 columns, config gives it 2 labels",
    ),
    "an integer beyond": (
        uploads.identities(("n", uploads.TensorProto.INT64, ("N",))),
        labelled("n_out", ["a", "b"]) | {"example": {"n": 7}},
        "'n_out' gives the class 7, for which config has no label",
    ),
    "more axes": (
        uploads.identities(("t", FLOAT, ("N", 2, 2))),
        labelled("t_out", ["a", "b"], form="object"),
        "'t_out' has 3 axes: the form 'object' is for rows",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_labels_that_do_not_fit_are_refused_when_published(house: Server, kind: str) -> None:
    graph, config, reason = MISFITS[kind]
    assert refused(put(house, "admin/labels", graph, config=config), 422).startswith(f"output {reason}")


@pytest.mark.parametrize(
    ("graph", "config"),
    [
        (CLASSES, labelled("label", THREE)),
        (CLASSES, labelled("label", {"0": "a", "1": "b", "2": "c", "3": "d"})),
        (CLASSES, labelled("probabilities", THREE, form="object")),
        (PLAIN, labelled("label", {"yes": "ja", "no": "nein"})),
        (TARGETS, labelled("label", ["size", "colour"], form="object")),
        (uploads.identities(("b", uploads.TensorProto.BOOL, ("N",))), labelled("b_out", ["no", "yes"])),
        (model([node("Identity", ["x"], ["y"])], [value("x", FLOAT, "N", 1)], [value("y", FLOAT, "N", 1)]), {}),
    ],
)
def test_labels_that_fit_are_taken(house: Server, graph: bytes, config: dict[str, Any]) -> None:
    assert put(house, "admin/labelled", graph, config=config).status_code in (200, 201)
