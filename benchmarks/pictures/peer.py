"""What one writes by hand: FastAPI around a transformers image classifier, one picture at a time.

BENCH_PICTURE_MODEL=model.json python -m benchmarks.pictures.peer PORT

The network is the base's with the served model's head, which a probe leaves it with. One thread
for each core, as for the texts' peer.
"""

import base64
import io
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from benchmarks.pictures.session import MODEL_VARIABLE


class Query(BaseModel):
    """The body of a request: the base64 of a picture's file."""

    image: str


@asynccontextmanager
async def one_thread_for_each_core(_: FastAPI) -> AsyncGenerator[None]:
    """Limit the threads in which FastAPI runs plain functions."""
    current_default_thread_limiter().total_tokens = len(os.sched_getaffinity(0))
    yield


def load(description: dict[str, Any]) -> tuple[Any, nn.Module]:
    """Return the base's image processor, and its network with the served model's head."""
    folder = description["base_folder"]
    network = AutoModelForImageClassification.from_pretrained(folder)
    head = np.load(description["head"])
    linear = nn.Linear(head["weight"].shape[1], head["weight"].shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head["weight"]))
        linear.bias.copy_(torch.from_numpy(head["bias"]))
    network.classifier = linear
    return AutoImageProcessor.from_pretrained(folder), network.eval()


def create_app() -> FastAPI:
    """Return the application with its model loaded."""
    torch.set_num_threads(1)
    description = json.loads(Path(os.environ[MODEL_VARIABLE]).read_text())
    processor, network = load(description)
    app = FastAPI(lifespan=one_thread_for_each_core)

    @app.post("/classify")
    def classify(query: Query) -> dict[str, Any]:
        """Return the best label and its score."""
        picture = Image.open(io.BytesIO(base64.b64decode(query.image))).convert("RGB")
        pixels = processor(images=picture, return_tensors="pt")
        with torch.inference_mode():
            scores = network(**pixels).logits[0].softmax(0)
        best = int(scores.argmax())
        return {"label": description["labels"][best], "score": float(scores[best])}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning", access_log=False)
