"""A model of pictures whose least sure answers are the prompt's."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from hone.comparison.adoption import read_adoption
from hone.comparison.fallback_command import app
from hone.models.manifest import Manifest
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.comparison.picture_prompts import pictures_in
from tests.comparison.picture_runs import LABELS, colour_file, compared_pictures, faint_file
from tests.comparison.upstream import Behaviour, Upstream, upstream
from tests.service.fallback.conftest import KEY, served
from tests.service.running import Service

FEW: dict[str, Any] = {"prompt": "few-shot", "k": 3, "detail": "low"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, set[str]]:
    """Return a folder with `store` and `run`, the manifest, and what the run asked."""
    folder = tmp_path_factory.mktemp("pictures")
    with upstream(Behaviour()) as server:
        compared_pictures(folder, server, **FEW)
        asked = {json.dumps(one.body, sort_keys=True) for one in server.served}
    manifest = read_adoption(folder / "run").publish()
    Registry(folder / "store").promote(ModelReference(manifest.model, version=manifest.version))
    return folder, manifest, asked


@pytest.fixture
def big() -> Iterator[Upstream]:
    with upstream(Behaviour(key=KEY)) as server:
        yield server


@pytest.fixture
def service(
    made: tuple[Path, Manifest, set[str]], big: Upstream, tmp_path: Path
) -> Iterator[Service]:
    with served(made[0] / "store", big, tmp_path) as running:
        yield running


def as_input(content: bytes, kind: str) -> dict[str, str]:
    return {"image": f"data:image/{kind};base64,{base64.b64encode(content).decode()}"}


def test_the_bundle_holds_its_prompt_with_the_examples_pictures(
    made: tuple[Path, Manifest, set[str]],
) -> None:
    folder, manifest, _ = made
    assert manifest.fallback is not None
    arm = manifest.fallback.arm
    assert (arm.inputs, arm.detail, arm.examples) == ("image", "low", "fallback.examples.json")
    assert arm.examples is not None
    assert manifest.fallback.verdict == "REPLACE WITH FALLBACK"
    bundle = folder / "store" / manifest.model / str(manifest.version)
    shots = json.loads((bundle / arm.examples).read_bytes())
    assert [sorted(shot) for shot in shots] == [["image", "label"]] * 3
    shown = CliRunner().invoke(app, ["show", "colours", "--store", str(folder / "store")])
    assert "{image}" in shown.output


def test_only_unsure_pictures_are_asked_as_the_comparison_asked(
    service: Service, big: Upstream, made: tuple[Path, Manifest, set[str]]
) -> None:
    folder, _, asked = made
    rows = [json.loads(x) for x in (folder / "data/test.jsonl").read_text().splitlines()][:24]
    files = [(folder / "data" / row["image"]).read_bytes() for row in rows]
    kinds = ["jpeg" if content[:2] == b"\xff\xd8" else "png" for content in files]
    inputs = [as_input(content, kind) for content, kind in zip(files, kinds, strict=True)]
    body = service.post({"model": "colours", "input": inputs}).json()
    assert [entry["label"] for entry in body["data"]] == [row["label"] for row in rows]
    assert [entry["answered_by"] for entry in body["data"]] == ["model", "prompt"] * 12
    assert len(big.served) == 12
    assert {json.dumps(one.body, sort_keys=True) for one in big.served} <= asked
    tokens = sum(answer["usage"]["prompt_tokens"] for answer in big.answers)
    assert body["savings"]["fallback_tokens"] == tokens > 12 * 4 * 85


def test_a_chat_with_an_unsure_picture_gets_the_prompts_label(
    service: Service, big: Upstream
) -> None:
    base_url = f"http://127.0.0.1:{service.port}/v1"
    with OpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        for content, kind, whose in (
            (faint_file("green", 901), "png", "prompt"),
            (colour_file("green", 902), "jpeg", "model"),
        ):
            url = as_input(content, kind)["image"]
            raw = client.chat.completions.with_raw_response.create(
                model="colours",
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": url}}],
                    }
                ],
            )
            assert raw.headers["x-hone-answered-by"] == whose
            assert raw.parse().choices[0].message.content == "green"
    [one] = big.served
    assert pictures_in(one.body)[-1] == {
        "url": as_input(faint_file("green", 901), "png")["image"], "detail": "low"
    }  # fmt: skip


def test_equal_pictures_share_a_call_and_a_failed_one_leaves_the_models_label(
    service: Service, big: Upstream
) -> None:
    picture = as_input(faint_file("red", 903), "png")
    body: dict[str, Any] = {"model": "colours", "input": [picture, picture]}
    assert {e["label"] for e in service.post(body).json()["data"]} == {"red"}
    assert len(big.served) == 1
    big.behaviour.script += ["status:400"]
    failed = service.post({"model": "colours", "input": as_input(faint_file("red", 904), "png")})
    entry = failed.json()["data"][0]
    assert (failed.status, entry["fallback"], entry["answered_by"]) == (200, "failed", "model")
    assert entry["label"] in LABELS
    assert entry["label"] != "red"
