from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sweep.errors import TransientError
from sweep.record.images import inflate, verify_image
from tests.support.record_writing import image

INFLATERS = [partial(inflate, library=zlib), inflate]  # the second is by ISA-L where that is installed
Inflate = Callable[..., tuple[bytes, bool]]
FORMS = ["PNG", "JPEG", "WEBP"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def webp(form: str, size: tuple[int, int] = (24, 16)) -> bytes:
    mode, options = {"lossy": ("RGB", {}), "lossless": ("RGB", {"lossless": True}), "alpha": ("RGBA", {})}[form]
    file = io.BytesIO()
    Image.new(mode, size, (9, 8, 7, 100) if mode == "RGBA" else (9, 8, 7)).save(file, "WEBP", **options)
    return file.getvalue()


def check_refused(data: bytes, most_pixels: int = 10_000) -> str:
    with pytest.raises(TransientError) as caught:
        verify_image(data, most_pixels=most_pixels)
    assert caught.value.kind == "BadImage"
    return str(caught.value)


@pytest.mark.parametrize(("form", "extension"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_whole_image(form: str, extension: str) -> None:
    facts = verify_image(image(form, (24, 16)))
    assert (facts.format, facts.width, facts.height) == (extension, 24, 16)


@pytest.mark.parametrize("form", ["lossy", "lossless", "alpha"])
def test_every_kind_of_webp(form: str) -> None:
    facts = verify_image(webp(form))
    assert (facts.width, facts.height) == (24, 16)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_cut_anywhere_is_no_image(form: str) -> None:
    data = image(form)
    for length in range(0, len(data), 7):
        check_refused(data[:length])
    check_refused(data[:-1])


@given(place=st.integers(8, len(image()) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_png_is_found(place: int, bit: int) -> None:
    data = bytearray(image())
    data[place] ^= 1 << bit
    check_refused(bytes(data))


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X"]))
def test_no_bytes_at_all_make_it_raise_anything_else(data: bytes, start: bytes) -> None:
    check_refused(start + data)


def test_what_is_no_image_is_named() -> None:
    assert "is HTML" in check_refused(b"\n<!DOCTYPE html><html>502 Bad Gateway</html>")
    assert "is empty" in check_refused(b"")
    assert "not a PNG, JPEG or WebP" in check_refused(b"GIF89a" + bytes(100))


@pytest.mark.parametrize("form", FORMS)
def test_more_pixels_than_allowed_are_refused_by_the_header(form: str) -> None:
    assert "101×100" in check_refused(image(form, (101, 100)))
    assert verify_image(image(form, (100, 100)), most_pixels=10_000).width == 100


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = png(chunk(b"IDAT", zlib.compress(bytes(10**6))), width=2**31 - 1, height=2**31 - 1)
    assert "more than sweep accepts" in check_refused(bomb, most_pixels=100_000_000)


def test_a_png_without_pixels_is_refused() -> None:
    assert "has no pixels" in check_refused(png(width=0, height=8))
    check_refused(png())


@pytest.mark.parametrize("before", [True, False])
def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused(before: bool) -> None:
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(50 * 2**20)))
    pixels = chunk(b"IDAT", zlib.compress(bytes(9 * 8)))
    check_refused(png(text, pixels) if before else png(pixels, text))


def test_damaged_kind_of_a_chunk_is_told_without_control_characters() -> None:
    damaged = chunk(b"IDAT", zlib.compress(bytes(9 * 8))).replace(b"IDAT", b"\x1b[2\n")
    assert r"its part \x1b[2\n is wrong" in check_refused(png(damaged))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (24, 16)).save(file, "PNG")
    facts = verify_image(file.getvalue())
    assert (facts.format, facts.width, facts.height) == ("png", 24, 16)
    for cut in (file.getvalue()[:-13], file.getvalue()[:-1]):
        check_refused(cut)


def test_a_stream_in_several_chunks_is_one_stream() -> None:
    whole = zlib.compress(bytes(9 * 8))
    facts = verify_image(png(chunk(b"IDAT", whole[:5]), chunk(b"IDAT", whole[5:])))
    assert (facts.width, facts.height) == (8, 8)


@pytest.mark.parametrize(
    "stream",
    [
        zlib.compress(bytes(9 * 7)),
        zlib.compress(bytes(9 * 8))[:-4] + b"\0\0\0\0",
        zlib.compress(b"\5" + bytes(9 * 8 - 1)),
        b"",
    ],
    ids=["a row is missing", "its checksum is wrong", "a filter that does not exist", "empty"],
)
def test_a_stream_that_is_not_the_pixels_is_refused(stream: bytes) -> None:
    check_refused(png(chunk(b"IDAT", stream)))


STREAM = zlib.compress(bytes(range(256)) * 40)
LENGTH = 256 * 40


@pytest.mark.parametrize("inflate", INFLATERS)
def test_both_libraries_inflate_alike(inflate: Inflate) -> None:
    assert inflate(STREAM, LENGTH) == (bytes(range(256)) * 40, True)
    assert inflate(memoryview(STREAM), LENGTH + 1) == (bytes(range(256)) * 40, True)
    content, ended = inflate(STREAM, 1000)
    assert (len(content), ended) == (1000, False)
    assert inflate(STREAM[:-2], LENGTH)[1] is False


@pytest.mark.parametrize("inflate", INFLATERS)
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_no_damage_to_a_stream_passes(inflate: Inflate, at: int, change: int) -> None:
    damaged = bytearray(STREAM)
    damaged[at] ^= change
    try:
        content, ended = inflate(bytes(damaged), LENGTH + 1)
    except ValueError:
        return
    assert not ended or content == bytes(range(256)) * 40  # some bits of the header say nothing of the content
