"""Runs before every module of the tests and of the benchmarks, and so before any of them imports onnxruntime."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # engine/tasks/runtime.py says why
