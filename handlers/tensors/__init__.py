"""The Open Inference Protocol over HTTP, version 2: models take tensors and give tensors, below `/v2`.

admission  who may use which model
infer      requests with tensors
models     what there is: the server, its health, and the tensors of a model
"""

from handlers.tensors import infer, models

ROUTES = (*models.ROUTES, *infer.ROUTES)
