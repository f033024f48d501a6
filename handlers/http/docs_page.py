"""The page that shows /openapi.json, for the surfaces that have it. Its files lie below /docs (handlers/openapi/pages.py)."""

from aiohttp import web

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sluice: the HTTP API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# Under this policy a browser loads nothing from any other host and sends nothing to one.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_page() -> web.Response:
    """The page: Swagger UI, which shows /openapi.json."""
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return web.Response(text=PAGE, content_type="text/html", charset="utf-8", headers=headers)
