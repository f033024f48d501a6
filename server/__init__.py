"""The server process: its settings, the web application, its start, drain and stop; in commands/, the command line."""

__version__ = "0.2.0"
