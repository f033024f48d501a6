"""Ingestion: rows that people send become a new version of a dataset.

orders   plain data: what an upload is asked to do
uploads  `Ingestion` and its uploads: from the segments of a body to the commit
"""

from engine.ingestion.orders import Embedder, EmbedPair, Order, Uploaded, UploadOptions
from engine.ingestion.uploads import Ingestion, IngestionLimits, Upload

__all__ = ["EmbedPair", "Embedder", "Ingestion", "IngestionLimits", "Order", "Upload", "UploadOptions", "Uploaded"]
