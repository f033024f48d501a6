"""The names of the kinds of jobs that preview has, by the queue of a worker that takes them: engine/jobs knows no name."""

# What `sluice worker` takes, as SLUICE_WORKER_QUEUE says.
QUEUES = {"datasets": ("dataset", "warm"), "splits": ("split", "prepare", "statistics")}
# What the commands about queues act on: never on the jobs of anybody else.
PREVIEW_KINDS = tuple(kind for kinds in QUEUES.values() for kind in kinds)
