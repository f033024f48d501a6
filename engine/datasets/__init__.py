"""Datasets: rows that people keep here, in versions that never change, for queries and everything else that reads them.

names, versions   plain data: what a source may be called, what a version holds
folders           the files of one dataset, and the order in which a commit writes them
catalogue         `Datasets`: which there are, who may read them, which files a query holds
sources           what a query names, among these datasets and those of other lenders
changes           `DatasetChanges`: one change of a dataset at a time
work              what `jobs` replicas are asked
merging, mending  the kinds of jobs that merge small segments and make missing sidecars again
upkeep            which asks for these jobs
deletion          rows deleted by a condition
"""

from engine.datasets.catalogue import Dataset, Datasets
from engine.datasets.changes import Conditions, DatasetChanges, DatasetLimits
from engine.datasets.sources import Lender, Sources
from engine.datasets.upkeep import Upkeep
from engine.datasets.versions import Readable

__all__ = ["Conditions", "Dataset", "DatasetChanges", "DatasetLimits", "Datasets", "Lender", "Readable", "Sources", "Upkeep"]
