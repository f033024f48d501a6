"""The embeddings surface: text to vectors over HTTP, in two shapes. `simple` is ours, `openai` is what OpenAI's clients expect."""

from handlers.embeddings import openai, simple

ROUTES = (*simple.ROUTES, *openai.ROUTES)
