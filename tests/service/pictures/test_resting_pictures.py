"""A model of pictures that rests takes bodies as large as one in memory does."""

import base64
from contextlib import AbstractContextManager
from pathlib import Path

from hone.models.registry import Registry
from tests.pictures import encoded, picture
from tests.service.running import Answer, Service, serving
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures

MOST_TEXT = 60_000


def show(service: Service) -> Answer:
    large = encoded(picture((200, 30, 30), size=(300, 300)), "PNG")
    url = f"data:image/png;base64,{base64.b64encode(large).decode()}"
    assert len(url) > MOST_TEXT
    return service.post({"model": "colours", "input": {"image": url}})


def serve(store: Path, folder: Path) -> AbstractContextManager[Service]:
    return serving(
        store,
        log_folder=folder,
        max_body_bytes=MOST_TEXT,
        max_picture_body_bytes=2_000_000,
        max_loaded_models=1,
        run_jobs=False,
        reload_interval_s=0.1,
    )


def test_the_first_request_to_a_resting_model_may_be_large(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_tiny_pictures(Registry(store))
    publish_tiny(Registry(store))  # the younger one is loaded at the start
    with serve(store, tmp_path) as service:
        assert "colours" not in service.banner
        assert show(service).status == 200
        service.classify("a text")  # the other one rests now
        assert show(service).status == 200


def test_without_any_model_of_pictures_the_limit_is_that_of_texts(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_tiny(Registry(store))
    with serve(store, tmp_path) as service:
        refused = show(service)
        assert (refused.status, refused.error()["code"]) == (413, "body_too_large")
