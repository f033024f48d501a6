"""What `sluice WORD` runs. Most of these commands are clients of a running server; none of them is imported to serve.

`sluice score` starts without loading the server, so this file imports nothing.
"""
