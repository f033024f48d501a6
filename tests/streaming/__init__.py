"""Black-box tests of the streaming surface, with real sockets and real clients (streaming.md 4 and 7)."""
