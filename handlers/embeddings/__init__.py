"""The embeddings surface: text to vectors over HTTP, in three shapes.

simple  ours
openai  what OpenAI's clients expect
tei     what clients of Text Embeddings Inference expect
"""

from handlers.embeddings import openai, simple, tei

ROUTES = (*simple.ROUTES, *openai.ROUTES, *tei.ROUTES)
