"""The description of everything that the server answers, for programs and for people.

document    the OpenAPI document of all routes
parameters  what stands in paths and after the `?`
schemas     what bodies and answers hold
pages       `/openapi.json`, and `/docs`, which shows it
"""

from handlers.openapi.document import merged
from handlers.openapi.pages import DOCUMENT, ROUTES, SWAGGER_UI_FILES, Document
from handlers.openapi.parameters import public_path

__all__ = ["DOCUMENT", "ROUTES", "SWAGGER_UI_FILES", "Document", "merged", "public_path"]
