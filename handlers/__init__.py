"""The HTTP side of the server: one file or folder for each surface, and `http` for what they share. The engine knows none of it."""
