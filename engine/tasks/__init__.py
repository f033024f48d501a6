"""What replicas run (`python -m engine.tasks`): parse, check, compute, encode. Never imported by the server process."""
