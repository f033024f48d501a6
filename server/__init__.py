"""The server process: its settings, the web application, its start, drain and stop; in commands/, the command line."""
