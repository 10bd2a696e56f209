"""Fine-tuned models by their ids, old and new, raw and percent-encoded: found, asked, deleted."""

from urllib.parse import quote, quote_plus

import openai
import pytest
from openai import OpenAI

from tests.service.openai_jobs.conftest import Workbench
from tests.service.running import wait_until


def fine_tuned(workbench: Workbench, path: str, base: str, suffix: str) -> tuple[str, str]:
    """Return the id and the name in the store of a model that a job has made."""
    file = workbench.upload()
    id_ = workbench.made(path, training_file=file, model=base, suffix=suffix)["id"]
    done = workbench.succeed(workbench.claim(id_))
    assert done.fine_tuned_model is not None
    return done.fine_tuned_model, done.store_model


@pytest.mark.parametrize(
    ("path", "base"), [("/v1/fine_tuning/jobs", "minilm"), ("/v1/fine-tunes", "curie")]
)
def test_a_fine_tuned_model_lives_under_its_id(
    workbench: Workbench, client: OpenAI, path: str, base: str
) -> None:
    name, stored = fine_tuned(workbench, path, base, "mine")
    assert name.startswith("ft:minilm:local:mine:" if base == "minilm" else "curie:ft-local:mine-")
    wait_until(lambda: workbench.ask("GET", f"/v1/models/{name}").json().get("loaded"))
    for written in (name, quote(name, safe=""), quote_plus(name)):
        model = workbench.ask("GET", f"/v1/models/{written}").json()
        assert (model["id"], model["owned_by"], model["parent"]) == (name, "local", base)
    listed = [model.id for model in client.models.list()]
    assert name in listed
    assert "support" in listed
    assert stored not in listed

    answer = client.completions.create(model=name, prompt="card")
    assert answer.model == name
    assert answer.choices[0].text
    engine = f"/v1/engines/{quote_plus(name)}/completions"
    assert workbench.ask("POST", engine, {"prompt": "card"}).json()["model"] == name
    for hidden in (stored, f"{stored}@1", f"{stored}@latest"):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=hidden, prompt="card")
        assert workbench.ask("GET", f"/v1/models/{hidden}").status == 404

    more = client.fine_tuning.jobs.create(model=name, training_file=workbench.upload())
    assert more.model == name

    gone = workbench.ask("DELETE", f"/v1/models/{quote_plus(name)}")
    assert gone.json() == {"id": name, "object": "model", "deleted": True}
    assert not (workbench.store / stored / "1").exists()
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model=name, prompt="card")
    with pytest.raises(openai.NotFoundError):
        client.models.delete(name)
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.create(model=name, training_file=workbench.upload())


def test_the_stores_own_models_cannot_be_deleted_over_http(
    workbench: Workbench, client: OpenAI
) -> None:
    for name in ("support", "support@1", "../support", "nothing"):
        with pytest.raises(openai.NotFoundError):
            client.models.delete(name)
    assert client.models.retrieve("support").id == "support"
    assert client.models.retrieve("support@1").id == "support@1"
