"""The streaming surface as a black box: real sockets, real clients (streaming.md 4 and 7)."""
