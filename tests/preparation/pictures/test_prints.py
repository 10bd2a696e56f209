import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hone.models.imaging.decoding import decode_picture
from hone.training.preparation.pictures.prints import NEAR_BITS, difference_hash, near_groups
from tests.pictures import encoded


def scene(seed: int) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((200, 160), Image.Resampling.BICUBIC)


def test_the_same_scene_in_another_size_format_and_quality_is_near() -> None:
    changed = [
        scene(1),
        decode_picture(encoded(scene(1), "JPEG", quality=40)),
        scene(1).resize((90, 72)),
        decode_picture(encoded(scene(1), "WEBP", quality=30)),
        scene(1).point(lambda value: min(255, value + 12)),
    ]
    others = [scene(seed) for seed in range(2, 30)]
    groups = near_groups([difference_hash(picture) for picture in changed + others])
    assert groups == [0] * len(changed) + list(range(len(changed), len(changed) + len(others)))


def test_pictures_that_show_nothing_are_not_alike() -> None:
    flat = [Image.new("RGB", (50, 50), colour) for colour in ("black", "white", "navy")]
    prints = [difference_hash(picture) for picture in flat]
    assert prints == [None] * 3
    assert near_groups(prints) == [0, 1, 2]


@given(st.lists(st.integers(0, NEAR_BITS * 2), min_size=2, max_size=9), st.integers(0, 99))
def test_groups_are_those_that_comparing_every_pair_would_find(flips: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2, 256).astype(np.uint8)
    rows = []
    for count in flips:
        changed = bits.copy()
        changed[generator.choice(256, count, replace=False)] ^= 1
        rows.append(changed)
    groups = near_groups([np.packbits(row) for row in rows])
    wanted = list(range(len(rows)))
    for _ in rows:
        for i, one in enumerate(rows):
            for j, other in enumerate(rows):
                if (one != other).sum() <= NEAR_BITS:
                    wanted[i] = wanted[j] = min(wanted[i], wanted[j])
    assert groups == wanted
