"""onnxruntime, kept quiet: this is the only file of engine/ that imports it.

From version 1.29 on, onnxruntime's builds for Linux send telemetry: the import alone writes below the home directory, and a thread
looks up a host of its makers. The library reads ORT_DISABLE_TELEMETRY when it is loaded, so the variable must be set before the
import; disable_telemetry_events() comes after the files are written. Every value but an empty one and 0 switches the telemetry off.

onnxruntime's log goes to stderr past Python's logging. It quotes values of records, and names from a user's graph, in which a
newline begins a line of that user's making. Here it logs only what is fatal, which __main__ sends nowhere. No reason is lost by
that, since onnxruntime raises each error as well.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

# The highest of onnxruntime's five levels.
FATAL = 4

onnxruntime.set_default_logger_severity(FATAL)

__all__ = ["FATAL", "onnxruntime"]
