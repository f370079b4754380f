"""Picture files: alien, damaged and huge ones."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data import labels, pictures
from netspec.errors import Error
from tests.data import folders


def test_grey_and_palette_photographs_are_read_as_rgb(tmp_path):
    folder = folders.voc(tmp_path, 1)
    path = os.path.join(folder, "JPEGImages", "2007_000000.jpg")
    with Image.open(path) as picture:
        grey = picture.convert("L")
    grey.save(path)
    image = pictures.read_image(path)
    assert image.shape == (8, 9, 3) and np.array_equal(image[:, :, 0], image[:, :, 2])


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_alien_pictures_are_one_line_that_names_them(tmp_path, content):
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    for read in (pictures.read_image, labels.read_label_png):
        with pytest.raises(Error, match="odd.png") as caught:
            read(str(path))
        assert "\n" not in str(caught.value)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.png"
    picture = bytearray()
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    picture += b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    picture += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(b"")
    picture += struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    path.write_bytes(picture)
    with pytest.raises(Error, match="9000x9000 pixels, more than"):
        pictures.read_image(str(path))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1"])
def test_every_kind_of_picture_is_read_as_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    folders.photo(tmp_path / f"x.{suffix}", mode=mode)
    pixels = pictures.read_photo(tmp_path / f"x.{suffix}")
    assert pixels.shape == (20, 30, 3) and pixels.dtype == np.uint8
    with Image.open(tmp_path / f"x.{suffix}") as picture:
        assert np.array_equal(pixels, np.asarray(picture.convert("RGB")))


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = pictures.read_photo(tmp_path / "deep.png")
    assert np.array_equal(pixels[:, :, 0], values >> 8) and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_exif_orientation_is_respected(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = folders.photo(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pictures.read_photo(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_broken_exif_does_no_harm(tmp_path):
    pixels = folders.photo(tmp_path / "x.png", exif=b"Exif\0\0II*\0broken")
    assert np.array_equal(pictures.read_photo(tmp_path / "x.png"), pixels)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    # A PNG of 60000 x 60000 pixels in a few bytes: only the header is right.
    folders.photo(tmp_path / "x.png")
    data = bytearray((tmp_path / "x.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(Error, match="bomb.png"):
        pictures.read_photo(tmp_path / "bomb.png")


def test_every_truncation_is_one_error(tmp_path):
    folders.photo(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    for length in range(0, len(data) - 2, 37):
        (tmp_path / "cut.jpg").write_bytes(data[:length])
        with pytest.raises(Error, match="cut.jpg"):
            pictures.read_photo(tmp_path / "cut.jpg")


def test_a_folder_lists_its_pictures_in_order(tmp_path):
    for name in ("b.PNG", "a.png", "readme.txt"):
        (tmp_path / name).touch()
    assert [path.rsplit("/")[-1] for path in pictures.find_all([str(tmp_path)])] == ["a.png", "b.PNG"]
    twice = pictures.find_all([str(tmp_path / "a.png"), str(tmp_path / "a.png")])
    assert len(twice) == 1
