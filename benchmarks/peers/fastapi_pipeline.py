"""What one writes by hand: FastAPI around `transformers.pipeline`, one text at a time.

BENCH_MODEL=model.json BENCH_WORKERS=2 python -m benchmarks.peers.fastapi_pipeline PORT

One thread for each core. Left to themselves, FastAPI's 40 threads with torch's own threads in each
are slower with 32 connections than with one.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import torch
import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from benchmarks.peers.pooled import load_pooled
from benchmarks.session import model_from_environment, workers_from_environment


class Query(BaseModel):
    """The body of a request."""

    input: str


@asynccontextmanager
async def one_thread_for_each_core(_: FastAPI) -> AsyncGenerator[None]:
    """Limit the threads in which FastAPI runs plain functions."""
    current_default_thread_limiter().total_tokens = workers_from_environment()
    yield


def create_app() -> FastAPI:
    """Return the application with its model loaded."""
    torch.set_num_threads(1)
    model, tokenizer = load_pooled(model_from_environment())
    classify_text = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    app = FastAPI(lifespan=one_thread_for_each_core)

    @app.post("/classify")
    def classify(query: Query) -> dict[str, Any]:
        """Return the best label and its score."""
        found: dict[str, Any] = classify_text(query.input, truncation=True)[0]
        return found

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning", access_log=False)
