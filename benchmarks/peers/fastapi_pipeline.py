"""What one writes by hand: FastAPI around `transformers.pipeline`, one text at a time.

BENCH_MODEL=model.json python -m benchmarks.peers.fastapi_pipeline PORT
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from benchmarks.peers.pooled import load_pooled
from benchmarks.session import model_from_environment


class Query(BaseModel):
    """The body of a request."""

    input: str


def create_app() -> FastAPI:
    """Return the application with its model loaded."""
    model, tokenizer = load_pooled(model_from_environment())
    classify_text = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    app = FastAPI()

    @app.post("/classify")
    def classify(query: Query) -> dict[str, Any]:
        """Return the best label and its score."""
        found: dict[str, Any] = classify_text(query.input, truncation=True)[0]
        return found

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning", access_log=False)
