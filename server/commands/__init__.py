"""What `python -m server WORD` runs. Most of these commands are clients of a running server; none of them is imported to serve.

`python -m server score` starts without loading the server, so this file imports nothing.
"""
