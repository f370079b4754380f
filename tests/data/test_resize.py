import numpy as np
import pytest

from data.resize import resize

cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless (pip install -e '.[test]')")


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_bits_are_opencvs(shape):
    random = np.random.RandomState(len(shape) + sum(shape))
    for number in range(60):
        tall, wide, height, width = (int(length) for length in random.randint(1, 60, 4))
        if number % 6 == 0:
            tall, wide = 2 * height, 2 * width  # OpenCV takes the mean of 2 x 2
        picture = random.randint(0, 256, (tall, wide, *shape)).astype(np.uint8)
        expected = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, *shape)
        assert np.array_equal(resize(picture, height, width), expected), (tall, wide, height, width)


def test_large_pictures_and_one_of_the_right_size():
    picture = np.random.RandomState(0).randint(0, 256, (375, 500, 3)).astype(np.uint8)
    for height, width in ((256, 256), (227, 640), (800, 333)):
        assert np.array_equal(resize(picture, height, width), cv2.resize(picture, (width, height)))
    assert resize(picture, 375, 500) is picture
