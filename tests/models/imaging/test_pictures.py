"""Pictures by where they are: what holds for a file holds for an embedded one."""

import base64
from pathlib import Path

import orjson
import pytest

from hone.models.imaging import files
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import PictureFile, find_picture
from tests.pictures import encoded, picture

CONTENT = encoded(picture((200, 40, 40)))


def found(folder: Path, *, embedded: bool) -> PictureFile:
    """Return the picture of a table's one line."""
    (folder / "p.jpg").write_bytes(CONTENT)
    url = f"data:image/jpeg;base64,{base64.b64encode(CONTENT).decode()}"
    value, table = url if embedded else "p.jpg", folder / "test.jsonl"
    table.write_bytes(orjson.dumps({"image": value, "label": "red"}) + b"\n")
    return find_picture(value, table, at=0, line=1, name="one")


@pytest.mark.parametrize("embedded", [True, False])
def test_no_picture_is_larger_than_a_service_takes(
    embedded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", len(CONTENT))
    assert found(tmp_path, embedded=embedded).read() == CONTENT
    monkeypatch.setattr(files, "LARGEST_FILE", len(CONTENT) - 1)
    with pytest.raises(UnusablePicture, match=f"^it has more than {len(CONTENT) - 1:,} bytes$"):
        found(tmp_path, embedded=embedded)
