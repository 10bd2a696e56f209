"""Fine-tuning jobs on pictures: an archive and embedded ones, the whole way."""

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from tests.pictures import encoded
from tests.service.openai_jobs.job_clients import (
    client_of,
    ended,
    hyperparameters,
    json_lines,
    said,
    uploaded,
)
from tests.service.running import Service, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

BASE = "scratch:convnet"
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("pictures")
    settings: dict[str, Any] = {"jobs_poll_s": 0.1, "jobs_threads": 1, "jobs_nice": 0}
    with serving(folder / "store", log_folder=folder, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with client_of(service) as client:
        yield client


def coloured(label: str, seed: int) -> bytes:
    """Return a PNG of noise around a colour."""
    noise = np.random.default_rng(seed).integers(-30, 30, (24, 24, 3))
    pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


def shown(rows: int) -> list[tuple[str, bytes]]:
    labels = list(COLOURS)
    return [(labels[n % 2], coloured(labels[n % 2], n)) for n in range(rows)]


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def archive(rows: int, *others: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for number, (label, picture) in enumerate(shown(rows)):
            file.writestr(f"photos/{label}/{number}.png", picture)
        for name, other in others:
            file.writestr(name, other)
    return content.getvalue()


def chat(picture: bytes, label: str | None = None) -> Any:
    part = {"type": "image_url", "image_url": {"url": data_url(picture)}}
    asked = [{"type": "text", "text": "Which colour?"}, part]
    turns: list[Any] = [{"role": "user", "content": asked}]
    return [*turns, {"role": "assistant", "content": label}] if label else turns


def test_an_archive_becomes_a_model_that_is_shown_pictures(
    client: OpenAI, service: Service
) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, archive(40), "photos.zip"),
        suffix="colours",
        method=hyperparameters(n_epochs=4, batch_size=8),
    )
    job = ended(client, job.id)
    assert (job.status, job.error) == ("succeeded", None), said(client, job.id)
    model = job.fine_tuned_model or ""
    assert model.startswith("ft:scratch-convnet:")
    messages = chat(coloured("red", 99))
    answer = client.chat.completions.create(model=model, messages=messages)
    assert answer.choices[0].message.content in COLOURS
    classified = service.classify({"image": data_url(coloured("blue", 99))}, model=model)
    assert classified["model"] == model
    content = client.files.content(job.result_files[0]).text.splitlines()
    assert len(content) > 4


def test_embedded_pictures_of_both_forms_train_a_model(client: OpenAI, tmp_path: Path) -> None:
    lines = [{"image": data_url(picture), "label": label} for label, picture in shown(30)]
    chats = [{"messages": chat(picture, label)} for label, picture in shown(50)[30:]]
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines(lines)),
        validation_file=uploaded(client, json_lines(chats)),
        method=hyperparameters(n_epochs=1),
    )
    job = ended(client, job.id)
    assert (job.status, job.error) == ("succeeded", None), said(client, job.id)
    messages = chat(coloured("red", 99))
    answer = client.chat.completions.create(model=job.fine_tuned_model or "", messages=messages)
    assert answer.choices[0].message.content in COLOURS
    with pytest.raises(BadRequestError):
        client.chat.completions.create(
            model=job.fine_tuned_model or "", messages=[{"role": "user", "content": "red"}]
        )
