"""What a service logs of odd pictures."""

import json

from tests.pictures import encoded, picture
from tests.service.pictures.showing import as_json, shot
from tests.service.running import Service

EXIF_CUT_OFF = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"


def test_a_library_s_warning_of_a_picture_is_a_line_of_json(shown: Service) -> None:
    content = encoded(picture((190, 40, 40), seed=1))
    length = (len(EXIF_CUT_OFF) + 2).to_bytes(2, "big")
    odd = content[:2] + b"\xff\xe1" + length + EXIF_CUT_OFF + content[2:]
    answer = shown.classify([as_json(odd, "image/jpeg"), as_json(shot("red"))], "colours")
    assert len(answer["data"]) == 2
    lines = [json.loads(line) for line in shown.logged().splitlines() if "EXIF" in line]
    assert [line["level"] for line in lines] == ["warning"] * len(lines)
    assert lines
