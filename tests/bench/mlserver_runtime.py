"""The iris graph as a runtime of MLServer, for comparison: the bare tensors of its V2 protocol in, bare tensors out.

mlserver must be installed. `mlserver start FOLDER` imports this module by the name that model-settings.json gives.
"""

import numpy as np
from bare_iris import open_session
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Iris(MLModel):
    async def load(self) -> bool:
        self.session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        labels, probabilities = self.session.run(None, {"X": rows})
        outputs = [NumpyCodec.encode_output("label", labels), NumpyCodec.encode_output("probabilities", probabilities)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
