"""Models over text: HelloWorld, language, toxicity. Strings go into the graph as they are; the graph itself tokenises them."""

import collections
import io

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import packages
from folder import Built, Record

HELD_OUT = 0.25
SEED = 7

CORPUS = "chatterbot-corpus==1.3.3"
PROFANITY = "alt-profanity-check==1.9.1"

# Fifteen languages of the corpus have at least this many different sentences. The next one, Swedish, has 145, half of them English.
MIN_SENTENCES = 200
# How many of the most frequent n-grams of each language are used. 300 give an accuracy of 0.938 on the held-out part and 2,860
# columns; 500 give 0.942 and 4,793 columns; 150 give 0.929 and 1,375 columns.
NUM_GRAMS_PER_LANGUAGE = 300
PADDING = "<padding>"  # longer than one character, so it is never mistaken for a character


def hello_world() -> Built:
    """The greeting of the original service: "Hello " and the name."""
    config = {
        "owner": "brandon",
        "name": "HelloWorld",
        "task": "predict",
        "description": "Greets by name",
        "shared": True,
        "max_batch_size": 4096,
        "inputs": [{"kind": "column", "input": "name", "field": "name"}],
        "outputs": [{"output": "greeting", "as": "greeting"}],
        "example": {"name": "Kermit"},
    }
    names = ["jim", "Zoë", "", "李", "two words", "🐸"]
    return Built(config, _greeting_graph(), [{"name": name} for name in names], [f"Hello {name}" for name in names])


def _greeting_graph() -> onnx.ModelProto:
    """Graph `name` string [N] -> `greeting` string [N]."""
    hello = helper.make_tensor("hello", TensorProto.STRING, [], [b"Hello "])
    node = helper.make_node("StringConcat", ["hello", "name"], ["greeting"])
    inputs = [helper.make_tensor_value_info("name", TensorProto.STRING, ["N"])]
    outputs = [helper.make_tensor_value_info("greeting", TensorProto.STRING, ["N"])]
    graph = helper.make_graph([node], "HelloWorld", inputs, outputs, [hello])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def language() -> Built:
    """Logistic regression on the set of character 1- to 3-grams that a text has (tf-idf without counts)."""
    pairs = sorted((name, text) for name, found in _sentences().items() if len(found) >= MIN_SENTENCES for text in found)
    truths, texts = map(list, zip(*pairs, strict=True))
    train, held, train_truths, held_truths = train_test_split(texts, truths, test_size=HELD_OUT, random_state=SEED, stratify=truths)
    vectorizer = TfidfVectorizer(
        analyzer=_grams, vocabulary=_vocabulary(train, train_truths), binary=True, lowercase=False, dtype=np.float32
    )
    estimator = LogisticRegression(C=10, class_weight="balanced", max_iter=500)
    estimator.fit(vectorizer.fit_transform(train), train_truths)
    # Rounding the coefficients halves the file. The reference below comes from the rounded model too.
    estimator.coef_ = estimator.coef_.astype(np.float16).astype(np.float32)
    classes = estimator.classes_.tolist()
    config = {
        "owner": "sluice",
        "name": "language",
        "task": "predict",
        "description": f"Which of {len(classes)} languages a text is in",
        "shared": True,
        "max_batch_size": 256,
        "inputs": [{"kind": "column", "input": "text", "field": "text"}],
        "outputs": [
            {"output": "language", "as": "language"},
            {"output": "probabilities", "as": "probabilities", "labels": classes, "form": "object"},
        ],
        "example": {"text": "Wo ist der Bahnhof?"},
    }
    reference = estimator.predict_proba(vectorizer.transform(held))
    return Built(config, _language_graph(vectorizer, estimator), _texts(held), held_truths, reference)


def _sentences() -> dict[str, set[str]]:
    """The different sentences of the corpus, by language."""
    sentences = collections.defaultdict(set)
    for member in packages.member_names(CORPUS):
        if member.endswith(".yml"):
            conversations = yaml.safe_load(packages.read_member(CORPUS, member)).get("conversations", [])
            lines = [line for conversation in conversations for line in conversation if isinstance(conversation, list)]
            sentences[member.split("/")[2]].update(line.strip() for line in lines if isinstance(line, str) and line.strip())
    return sentences


def _texts(texts: list[str]) -> list[Record]:
    """Texts as records."""
    return [{"text": text} for text in texts]


def _grams(text: str) -> list[str]:
    """The character 1- to 3-grams of a text in lower case between two spaces, made as the graph makes them."""
    folded = f" {''.join(map(_small, text))} "
    return [folded[start : start + size] for size in (1, 2, 3) for start in range(len(folded) - size + 1)]


def _small(character: str) -> str:
    """The lower case of a letter if that is one character; any other character unchanged."""
    return character.lower() if len(character.lower()) == 1 else character


def _vocabulary(texts: list[str], truths: list[str]) -> list[str]:
    """The most frequent n-grams of each language, counted once per text; shorter ones first, as TfIdfVectorizer requires."""
    counts = collections.defaultdict(collections.Counter)
    for text, truth in zip(texts, truths, strict=True):
        counts[truth].update(set(_grams(text)))
    chosen = set()
    for counter in counts.values():
        ranked = sorted(counter, key=lambda gram: (-counter[gram], gram))
        chosen.update(ranked[:NUM_GRAMS_PER_LANGUAGE])
    return sorted(chosen, key=lambda gram: (len(gram), gram))


def _language_graph(vectorizer: TfidfVectorizer, estimator: LogisticRegression) -> onnx.ModelProto:
    """Graph `text` string [N] -> `language` string [N], `probabilities` [N,classes].

    Characters become numbers before the n-grams are counted. Upper and lower case get the same number, so that the graph needs
    no StringNormalizer and no locale of the system. The spaces at both ends also keep an empty text from making an empty tensor.
    """
    grams = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)
    numbers = {character: number for number, character in enumerate(sorted(set("".join(grams))), start=1)}
    classes = [name.encode() for name in estimator.classes_]
    constants = [
        helper.make_tensor("space", TensorProto.STRING, [], [b" "]),
        numpy_helper.from_array(estimator.coef_.T.astype(np.float16), "coefficients16"),
        numpy_helper.from_array(estimator.intercept_.astype(np.float32), "intercepts"),
        helper.make_tensor("classes", TensorProto.STRING, [len(classes)], classes),
    ]
    nodes = [
        helper.make_node("StringConcat", ["space", "text"], ["opened"]),
        helper.make_node("StringConcat", ["opened", "space"], ["closed"]),
        _tokenizer("closed", "characters", mincharnum=1, separators=[""]),
        _character_numbers("characters", "numbers", numbers),
        _gram_counter("numbers", "counts", [[numbers[character] for character in gram] for gram in grams], vectorizer.idf_),
        helper.make_node("Normalizer", ["counts"], ["unit"], domain="ai.onnx.ml", norm="L2"),
        helper.make_node("Cast", ["coefficients16"], ["coefficients"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["unit", "coefficients", "intercepts"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "best"], ["language"]),
    ]
    outputs = [
        helper.make_tensor_value_info("language", TensorProto.STRING, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(classes)]),
    ]
    return _text_model("language", nodes, outputs, constants)


def _character_numbers(source: str, target: str, numbers: dict[str, int]) -> onnx.NodeProto:
    """Node from characters to numbers. Upper case gets the number of its lower case; a character outside the vocabulary gets 0."""
    large = {character.upper(): number for character, number in numbers.items() if _small(character.upper()) == character}
    known = dict(sorted((large | numbers).items()))
    return helper.make_node(
        "LabelEncoder",
        [source],
        [target],
        domain="ai.onnx.ml",
        keys_strings=list(known),
        values_int64s=list(known.values()),
        default_int64=0,
    )


def _gram_counter(source: str, target: str, grams: list[list[int]], weights: np.ndarray) -> onnx.NodeProto:
    """Node that gives the weight of every n-gram in a row, however often it occurs: [N, characters] -> [N, n-grams].

    Shorter n-grams come first.
    """
    sizes = [len(gram) for gram in grams]
    starts = [sum(size for size in sizes if size < longer) for longer in (1, 2, 3)]
    return helper.make_node(
        "TfIdfVectorizer",
        [source],
        [target],
        mode="IDF",
        min_gram_length=1,
        max_gram_length=3,
        max_skip_count=0,
        ngram_counts=starts,
        ngram_indexes=list(range(len(grams))),
        pool_int64s=[number for gram in grams for number in gram],
        weights=weights.tolist(),
    )


def toxicity() -> Built:
    """The profanity classifier of alt-profanity-check, turned into a graph; nothing is trained here.

    The package contains no texts, so the graph is compared with the packaged model on the English sentences of the corpus.
    """
    # Both files are pickles of scikit-learn objects. Loading them is as safe as the pinned hash.
    import joblib

    vectorizer = joblib.load(io.BytesIO(packages.read_member(PROFANITY, "profanity_check/data/vectorizer.joblib")))
    estimator = joblib.load(io.BytesIO(packages.read_member(PROFANITY, "profanity_check/data/model.joblib")))
    labels = ["clean", "toxic"]
    config = {
        "owner": "sluice",
        "name": "toxicity",
        "task": "predict",
        "description": "Whether an English text is offensive",
        "shared": True,
        "max_batch_size": 64,
        "inputs": [{"kind": "column", "input": "text", "field": "text"}],
        "outputs": [{"output": "label", "as": "label", "labels": labels}, {"output": "probability", "as": "probability"}],
        "example": {"text": "You are very kind"},
    }
    texts = [*sorted(_sentences()["english"]), "You stupid idiot", "go to hell", "", "!"]
    reference = estimator.predict_proba(vectorizer.transform(texts))[:, 1]
    truths = [labels[int(probability > 0.5)] for probability in reference]
    return Built(config, _toxicity_graph(vectorizer, estimator), _texts(texts), truths, reference, "compared with the package")


def _toxicity_graph(vectorizer: TfidfVectorizer, estimator: CalibratedClassifierCV) -> onnx.ModelProto:
    """Graph `text` string [N] -> `label` int64 [N], `probability` [N]: the mean of the calibrated classifiers.

    " the" is appended so that a text without words still makes a token; as a stop word it is not in the vocabulary.
    Every system has the locale "C", but it lowers ASCII letters only: "É" stays "É", where the package makes it "é".
    """
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)
    coefficients, intercepts = _calibrated(estimator)
    constants = [
        helper.make_tensor("stop_word", TensorProto.STRING, [], [b" the"]),
        numpy_helper.from_array(coefficients, "coefficients"),
        numpy_helper.from_array(intercepts, "intercepts"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        numpy_helper.from_array(np.array([1], np.int64), "classifiers_axis"),
    ]
    nodes = [
        helper.make_node("StringConcat", ["text", "stop_word"], ["closed"]),
        helper.make_node("StringNormalizer", ["closed"], ["small"], case_change_action="LOWER", locale="C"),
        _tokenizer("small", "words", mincharnum=2, tokenexp=r"[\p{L}\p{N}_]+"),
        _word_counter("words", "counts", words, vectorizer.idf_),
        helper.make_node("Normalizer", ["counts"], ["unit"], domain="ai.onnx.ml", norm="L2"),
        helper.make_node("Gemm", ["unit", "coefficients", "intercepts"], ["scores"]),
        helper.make_node("Sigmoid", ["scores"], ["each"]),
        helper.make_node("ReduceMean", ["each", "classifiers_axis"], ["probability"], keepdims=0),
        helper.make_node("Greater", ["probability", "half"], ["is_toxic"]),
        helper.make_node("Cast", ["is_toxic"], ["label"], to=TensorProto.INT64),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"]),
    ]
    return _text_model("toxicity", nodes, outputs, constants)


def _calibrated(estimator: CalibratedClassifierCV) -> tuple[np.ndarray, np.ndarray]:
    """float32 [words, classifiers] and [classifiers]: each line f of a classifier with its sigmoid 1 / (1 + exp(a f + b)) in it."""
    coefficients, intercepts = [], []
    for part in estimator.calibrated_classifiers_:
        (calibrator,) = part.calibrators
        coefficients.append(-calibrator.a_ * part.estimator.coef_[0])
        intercepts.append(-calibrator.a_ * part.estimator.intercept_[0] - calibrator.b_)
    return np.array(coefficients, np.float32).T, np.array(intercepts, np.float32)


def _word_counter(source: str, target: str, words: list[str], weights: np.ndarray) -> onnx.NodeProto:
    """Node that counts each word in a row and multiplies by its weight: [N, tokens] -> [N, words]."""
    return helper.make_node(
        "TfIdfVectorizer",
        [source],
        [target],
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=list(range(len(words))),
        pool_strings=words,
        weights=weights.tolist(),
    )


def _tokenizer(source: str, target: str, **how: object) -> onnx.NodeProto:
    """Node [N] texts -> [N, tokens of the longest]. The operator belongs to onnxruntime, not to ONNX: other runtimes lack it."""
    return helper.make_node("Tokenizer", [source], [target], domain="com.microsoft", mark=0, pad_value=PADDING, **how)


def _text_model(
    name: str, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], constants: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """A model with the input `text` string [N]. StringConcat needs opset 20, and opset 20 needs IR 9."""
    inputs = [helper.make_tensor_value_info("text", TensorProto.STRING, ["N"])]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, name, inputs, outputs, constants), opset_imports=opsets, ir_version=9)
