from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.record.images import LONGEST_NAME, ImageStore, make_slug

TEXT = st.text(max_size=200)
VALUES = st.dictionaries(
    st.sampled_from(["denoise_strength", "variation", "seed", "noise.seed", "prompt", "x", "image", "CON", "ü"]),
    st.one_of(TEXT, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"denoise_strength": 0.4, "variation": "studio lighting", "seed": 43}, "0007_s0.40_studio-lighting_seed43"),
        ({"denoise_strength": 0.125, "cfg_scale": 7.5, "steps": 20}, "0007_s0.125_cfg7.5_steps20"),
        ({"denoise_strength": 1, "scheduler": "euler_a"}, "0007_s1.00_euler-a"),
        ({"noise.seed": 5, "hires": True, "tiling": False}, "0007_seed5_hires_no-tiling"),
        ({"variation": "", "lora_weight": -0.5}, "0007_none_lora-0.5"),
        ({"prompt": "Crème brûlée,\nÀ LA CARTE!"}, "0007_creme-brulee-a-la-carte"),
        ({"prompt": "日本の城、夜"}, "0007_日本の城-夜"),
        ({"prompt": "한국 성"}, "0007_한국-성"),
        ({"width": 512, "height": 768, "x": 1e-7}, "0007_w512_h768_x1e-07"),
        ({}, "0007"),
    ],
)
def test_names_a_person_can_read(values: dict[str, object], name: str) -> None:
    assert ImageStore(Path(), 132).stem(7, values) == name  # type: ignore[arg-type]


def test_kinds_decide_where_types_do_not() -> None:
    values = {"photo": "../images/Cup 1.PNG", "look": "warm", "count": "three"}
    kinds = {"photo": "image", "look": "label"}
    assert ImageStore(Path(), 1).stem(0, values, kinds) == "0000_cup-1_warm_count-three"


def test_above_two_thousand_points_there_are_sub_folders() -> None:
    assert ImageStore(Path(), 2000).stem(1999, {}) == "1999"
    assert ImageStore(Path(), 2001).stem(1999, {}) == "001/1999"
    assert ImageStore(Path(), 1_000_000).stem(123456, {}) == "123/123456"


def test_a_text_without_letters_still_has_a_name_of_its_own() -> None:
    assert make_slug("🎉") != make_slug("🔥")
    assert make_slug("🎉").startswith("x")


@given(index=st.integers(0, 10**7), values=VALUES, points=st.integers(1, 10**7))
def test_any_value_gives_a_name_every_system_takes(index: int, values: dict[str, object], points: int) -> None:
    stem = ImageStore(Path(), points).stem(index, values)  # type: ignore[arg-type]
    name = f"{stem.rpartition('/')[2]}_01234567_99.webp"
    assert len(name) <= LONGEST_NAME
    assert len(name.encode()) <= 255
    assert not set(stem.rpartition("/")[2]) & set('<>:"/\\|?*\0\n\r\t ')
    assert stem == stem.rstrip(". ")
    assert int(stem.rpartition("/")[2].split("_")[0]) == index
    assert stem == ImageStore(Path(), points).stem(index, values)  # type: ignore[arg-type]
