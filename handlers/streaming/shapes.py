"""What bodies and answers of single predictions hold, for the documentation: a replica reads and writes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


class RecordBody(BaseModel):
    """The fields that the model's config.json names, and yhat_id if you like."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"name": "Kermit"}]})


class PredictionAnswer(TypedDict):
    """`result` has the form that the model's config.json describes; `yhat_id` is that of the record, or 32 hex digits."""

    result: Any
    version: int
    yhat_id: str | float
    yhat_model: str


class HeartbeatAnswer(TypedDict):
    """Whether the model has just answered its example: `status` is OK or ERROR, `date` is in UTC."""

    date: str
    status: str
