import numpy as np
import pytest
import scipy.ndimage

from tf_metalearn import Augmentation


@pytest.fixture
def images():
    return np.random.default_rng(0).random([3, 4, 9, 9, 2]).astype("float32")


def test_nothing_by_default(images):
    np.testing.assert_allclose(Augmentation()(images, 0, [1, 2, 3]), images, atol=1e-6)


def test_shifts_are_whole_pixels_and_all_of_them_occur():
    dot = np.zeros([400, 1, 7, 7, 1], "float32")
    dot[:, :, 3, 3] = 1
    moved = Augmentation(shift=2)(dot, 0, range(400)).numpy()[:, 0, :, :, 0]
    np.testing.assert_allclose(np.sort(np.unique(moved.round(6))), [0, 1])
    places = {tuple(place) for place in np.argwhere(moved > 0.5)[:, 1:] - 3}
    assert places == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_the_map_is_an_affine_one_around_the_middle(images):
    """Against scipy's affine transform with the matrix that turn, scale and shear are by definition."""
    augmentation = Augmentation(turn=40, scale=0.3, shear=15)
    random = np.linspace(-0.9, 0.9, 7).astype("float32")
    a, b, to_x, c, d, to_y, *_ = augmentation._transforms(random, 9, 9).numpy()
    turn, shear = np.radians(40 * random[0]), np.radians(15 * random[1])
    grow = np.diag(1.3 ** random[2:4])
    forward = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shearing = np.array([[np.cos(turn), np.sin(shear - turn)], [np.sin(turn), np.cos(shear - turn)]])
    np.testing.assert_allclose(np.array([[a, b], [c, d]]) @ grow, shearing, atol=1e-6)
    if not shear:
        np.testing.assert_allclose(shearing, forward)
    np.testing.assert_allclose([a * 4 + b * 4 + to_x, c * 4 + d * 4 + to_y], [4, 4], atol=1e-5)


def test_turning_by_a_known_angle_is_scipys_affine_transform():
    image = scipy.ndimage.gaussian_filter(np.random.default_rng(0).random([15, 15]), 1.5).astype("float32")
    augmentation = Augmentation(turn=30)
    batch = np.broadcast_to(image[None, None, :, :, None], [1, 1, 15, 15, 1])
    turned = augmentation(batch, 3, [11]).numpy()[0, 0, :, :, 0]
    from tf_metalearn.episodes.randomness import Purpose, uniform

    angle = np.radians(30 * (2 * uniform(3, Purpose.AUGMENTATION, [11], 7).numpy()[0, 0] - 1))
    # Rows and columns: y before x.
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = np.array([7, 7]) - back @ [7, 7]
    expected = scipy.ndimage.affine_transform(image, back, offset, order=1)
    np.testing.assert_allclose(turned[4:11, 4:11], expected[4:11, 4:11], atol=1e-4)


def test_flips_mirror_about_half_of_the_images(images):
    many = np.tile(images[:1, :1], [200, 1, 1, 1, 1])
    flipped = Augmentation(flip=True)(many, 0, range(200)).numpy()
    mirrored = [np.allclose(image, many[0][..., ::-1, :], atol=1e-5) for image in flipped]
    straight = [np.allclose(image, many[0], atol=1e-5) for image in flipped]
    assert all(one != other for one, other in zip(mirrored, straight, strict=True))
    assert 60 < sum(mirrored) < 140


def test_images_of_an_episode_change_alike_if_wanted(images):
    same = np.tile(images[:, :1], [1, 4, 1, 1, 1])
    alike = Augmentation(shift=3, turn=30, same_for="episode")(same, 0, [1, 2, 3]).numpy()
    for image in range(1, 4):
        np.testing.assert_allclose(alike[:, image], alike[:, 0], atol=1e-6)
    each = Augmentation(shift=3, turn=30)(same, 0, [1, 2, 3]).numpy()
    assert np.abs(each[:, 1] - each[:, 0]).max() > 0.1


def test_fill_decides_what_comes_from_outside():
    ones = np.ones([1, 1, 5, 5, 1], "float32")
    index = next(i for i in range(50) if Augmentation(shift=3)(ones, 0, [i]).numpy().min() == 0)
    for fill in ("reflect", "nearest"):
        np.testing.assert_allclose(Augmentation(shift=3, fill=fill)(ones, 0, [index]), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"shift": -1}, "shift=-1"),
        ({"shift": 1.5}, "shift=1.5"),
        ({"turn": "ten"}, "turn='ten'"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"fill": "zeros"}, "fill='zeros'"),
        ({"same_for": "class"}, "same_for='class'"),
    ],
)
def test_amounts_and_names_are_checked(refused, arguments, received):
    with refused(f"`{next(iter(arguments))}`", received):
        Augmentation(**arguments)
