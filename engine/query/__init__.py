"""Queries: a text and its parameters go to a replica, and the rows of stored datasets come back."""
