"""The process: settings, the web application, start, drain and stop."""
