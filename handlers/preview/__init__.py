"""Preview over HTTP: its routes, the headers and errors of its answers, and files with ranges.

errors, admission   how a request is refused; who asks for what
answers             the headers of an answer
data, pages         one dataset or split
lists, queue        all datasets; jobs and hooks
files, ranges       pictures, sound and Parquet files
page                the page for people, with its files in static/
"""

from handlers.preview import data, files, lists, page, pages, queue

ROUTES = (*data.ROUTES, *pages.ROUTES, *lists.ROUTES, *queue.ROUTES, *files.ROUTES, *page.ROUTES)
