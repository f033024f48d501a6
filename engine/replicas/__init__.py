"""Work that waits, and the child processes that do it."""
