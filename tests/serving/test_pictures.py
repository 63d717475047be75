import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_metalearn.serving.pictures import PictureFormat, decode_pictures

GREY, COLOUR = PictureFormat(8, 10, 1), PictureFormat(8, 10, 3)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def noise(random, shape):
    return random.integers(0, 256, shape, np.uint8)


def waves(height, width):
    """Smooth colours, which JPEG keeps."""
    y, x = np.mgrid[:height, :width]
    return np.stack([128 + 90 * np.sin(k * y / height + x / width) for k in (1, 2, 3)], axis=-1).astype("uint8")


def file(pixels, kind="PNG", **settings):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **settings)
    return stream.getvalue()


def decode(encoded, form):
    pictures, readable = decode_pictures(tf.constant(encoded), form)
    return pictures.numpy(), readable.numpy()


def test_a_png_of_the_right_size_is_its_pixels_exactly(random):
    grey, colour = noise(random, [8, 10]), noise(random, [8, 10, 3])
    pictures, readable = decode([[file(grey)]], GREY)
    np.testing.assert_array_equal(pictures, grey[None, None, ..., None] / np.float32(255))
    assert readable.tolist() == [[True]]
    np.testing.assert_array_equal(decode(file(colour), COLOUR)[0], colour / np.float32(255))


def test_grey_pictures_become_colour_where_colour_is_asked_for(random):
    grey = noise(random, [8, 10])
    np.testing.assert_array_equal(decode(file(grey), COLOUR)[0], np.stack([grey] * 3, axis=-1) / np.float32(255))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_colour_becomes_the_grey_that_pillow_makes_of_it_in_every_format(kind):
    """Training pictures of folders are read by Pillow."""
    encoded = file(waves(8, 10), kind)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB").convert("L"), "float32") / 255
    pictures, readable = decode(encoded, GREY)
    assert readable
    # Decoders of JPEG differ by a rounding.
    np.testing.assert_allclose(pictures[..., 0], expected, atol=2.1 / 255 if kind == "JPEG" else 1e-7)


def test_a_jpeg_is_what_pillow_reads():
    encoded = file(waves(8, 10), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(encoded)), "float32") / 255
    # TensorFlow takes the faster of two cosine transforms.
    np.testing.assert_allclose(decode(encoded, COLOUR)[0], expected, atol=8.1 / 255)


def test_transparency_is_left_out(random):
    pixels = noise(random, [8, 10, 4])
    np.testing.assert_array_equal(decode(file(pixels), COLOUR)[0], pixels[..., :3] / np.float32(255))


@pytest.mark.parametrize("size", [(28, 31), (105, 105), (5, 4), (8, 20)])
def test_other_sizes_are_resized_as_pillow_does_with_lanczos(random, size):
    pixels = noise(random, size)
    exact = Image.fromarray(pixels.astype("float32")).resize((10, 8), Image.Resampling.LANCZOS)
    expected = np.clip(np.asarray(exact) / 255, 0, 1)
    pictures, _ = decode(file(pixels), GREY)
    np.testing.assert_allclose(pictures[..., 0], expected, atol=1e-5)


def test_a_damaged_picture_is_said_to_be_and_its_neighbours_are_read(random):
    fine = file(noise(random, [8, 10]))
    encoded = [[fine, fine[: len(fine) // 2], b"", b"no picture", fine]]
    pictures, readable = decode(encoded, GREY)
    assert readable.tolist() == [[True, False, False, False, True]]
    np.testing.assert_array_equal(pictures[0, [0, 4]], np.stack([decode(fine, GREY)[0]] * 2))
    assert not pictures[0, 1:4].any()


def test_inverted_dark_pixels_are_one_and_a_damaged_picture_is_zeros():
    form = GREY._replace(invert=True)
    ink = np.full([8, 10], 255, np.uint8)
    ink[3] = 0
    pictures, _ = decode([file(ink), b"damaged"], form)
    np.testing.assert_array_equal(pictures[0, ..., 0], (ink == 0).astype("float32"))
    assert not pictures[1].any()


def test_no_pictures_at_all_are_none():
    pictures, readable = decode_pictures(tf.zeros([2, 0], tf.string), GREY)
    assert pictures.shape == (2, 0, 8, 10, 1)
    assert readable.shape == (2, 0)
