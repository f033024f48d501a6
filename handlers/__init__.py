"""HTTP on one side, the engine on the other; one file per surface."""
