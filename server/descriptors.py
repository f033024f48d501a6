"""File descriptors: how many connections may be open so that everything else still finds a descriptor.

A process that has none left can neither accept a connection nor start a replica nor open a file of the spill.
"""

import logging
import resource

from engine.engine import num_runners
from engine.repository.publishing import MAX_UPLOADS
from engine.spill import FILE_BYTES
from handlers.http.connections import NUM_SPARE
from server.config import Settings

log = logging.getLogger("sluice.server")

# No program here needs more, and some systems have a hard limit of a billion.
MOST_DESCRIPTORS = 1 << 20
# Pipes of a replica, and those of one that is just being started.
FOR_REPLICA = 8
# Each upload has a file open, and one more while its folder is read.
FOR_UPLOAD = 2
# The database, the listener, logs, the event loop, files that are read for a moment, and WebSockets that are just being closed.
FOR_THE_REST = 256
# Where the hard limit is very low, this part of it is for connections all the same.
LEAST_SHARE = 4


def raise_limit() -> int:
    """Raise the number of files that this process may have open to its hard limit; returns the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def num_connections(settings: Settings, num_descriptors: int) -> int:
    """SLUICE_MAX_CONNECTIONS, or the fewer connections for which this process may have descriptors."""
    room = max(num_descriptors - _needed(settings), num_descriptors // LEAST_SHARE)
    if room < settings.max_connections:
        log.warning("connections limited to=%d setting=%d open_files=%d", room, settings.max_connections, num_descriptors)
    return min(room, settings.max_connections)


def _needed(settings: Settings) -> int:
    """Descriptors for everything but connections."""
    # Each stream, and each query, has a file that it writes and one that it reads; the others are full, so the limit of the spill
    # bounds them.
    num_queries = settings.query_replicas + settings.query_queue
    spill_files = settings.spill_total_bytes // FILE_BYTES + 2 * (settings.max_streams + num_queries)
    # The pools for jobs and for queries have one replica more than their settings say.
    num_jobs = num_runners(settings.jobs_replicas) + 1
    replicas = FOR_REPLICA * (settings.score_replicas + num_jobs + settings.query_replicas + 1)
    return NUM_SPARE + spill_files + replicas + FOR_UPLOAD * MAX_UPLOADS + FOR_THE_REST
