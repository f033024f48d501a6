"""The streaming surface: predictions over HTTP, one record at a time, as a bulk stream, or over a WebSocket."""
