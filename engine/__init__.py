"""Blocks, lanes, replicas and state. Knows no HTTP and no numeric library."""
