"""The OpenAPI document, and what programs make of it."""
