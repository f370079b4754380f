"""Pictures of every kind are read as RGB; what is wrong with a file is said with its name."""

import numpy as np
import pytest
from PIL import Image

from netspec.errors import Error
from solvers import pictures
from tests.solvers.doors import photo


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1"])
def test_every_kind_of_picture_is_read_as_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    photo(tmp_path / f"x.{suffix}", mode=mode)
    pixels = pictures.read(tmp_path / f"x.{suffix}")
    assert pixels.shape == (20, 30, 3) and pixels.dtype == np.uint8
    with Image.open(tmp_path / f"x.{suffix}") as picture:
        assert np.array_equal(pixels, np.asarray(picture.convert("RGB")))


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = pictures.read(tmp_path / "deep.png")
    assert np.array_equal(pixels[:, :, 0], values >> 8) and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_exif_orientation_is_respected(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = photo(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pictures.read(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_broken_exif_does_no_harm(tmp_path):
    pixels = photo(tmp_path / "x.png", exif=b"Exif\0\0II*\0broken")
    assert np.array_equal(pictures.read(tmp_path / "x.png"), pixels)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    # A PNG of 60000 x 60000 pixels in a few bytes: only the header is right.
    photo(tmp_path / "x.png")
    data = bytearray((tmp_path / "x.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(Error, match="bomb.png"):
        pictures.read(tmp_path / "bomb.png")


def test_every_truncation_is_one_error(tmp_path):
    photo(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    for length in range(0, len(data) - 2, 37):
        (tmp_path / "cut.jpg").write_bytes(data[:length])
        with pytest.raises(Error, match="cut.jpg"):
            pictures.read(tmp_path / "cut.jpg")


def test_a_folder_lists_its_pictures_in_order(tmp_path):
    for name in ("b.PNG", "a.png", "readme.txt"):
        (tmp_path / name).touch()
    assert [path.rsplit("/")[-1] for path in pictures.find_all([str(tmp_path)])] == ["a.png", "b.PNG"]
    twice = pictures.find_all([str(tmp_path / "a.png"), str(tmp_path / "a.png")])
    assert len(twice) == 1


def test_free_memory_is_a_number_or_unknown():
    free = pictures.free_memory()
    assert free is None or free > 0
