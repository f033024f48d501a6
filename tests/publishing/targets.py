"""A classifier of two targets with two and three classes, and what it was fitted on."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

ROWS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


def classifier(*, are_words: bool) -> MultiOutputClassifier:
    classes = np.stack([(ROWS[:, 0] > 0).astype(int), np.digitize(ROWS[:, 1], [-0.5, 0.5])], axis=1)
    return MultiOutputClassifier(LogisticRegression()).fit(
        ROWS, np.array(["low", "mid", "high"])[classes] if are_words else classes
    )
