"""Data sets: their shapes, their files, and what is said of those that are not there."""

import io

import numpy as np
import pytest
from PIL import Image

from models.data import datasets

RANDOM = np.random.default_rng(3)


def mnist_file(folder, train=6, test=4):
    """A tiny mnist.npz in the layout of keras.datasets."""
    arrays = {
        "x_train": RANDOM.integers(0, 256, (train, 28, 28), np.uint8),
        "y_train": RANDOM.integers(0, 10, train, np.uint8),
        "x_test": RANDOM.integers(0, 256, (test, 28, 28), np.uint8),
        "y_test": RANDOM.integers(0, 10, test, np.uint8),
    }
    np.savez_compressed(folder / "mnist.npz", **arrays)
    return arrays


def cifar10_file(folder, images):
    """The same images in both parts, each a JPEG of one flat color."""
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg", quality=100, subsampling=0)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    arrays = {"jpeg": np.concatenate(files), "offsets": np.cumsum([0, *map(len, files)]), "y": np.arange(len(images))}
    np.savez(folder / "cifar10_jpeg.npz", **{f"{k}_{part}": v for k, v in arrays.items() for part in ("train", "test")})


def test_digits_are_split_evenly_and_without_overlap():
    (train, train_labels), (test, test_labels) = datasets.load("digits")
    assert train.shape == (4000, 28, 28, 1)
    assert train.dtype == test.dtype == np.float32
    assert np.bincount(train_labels).tolist() == [400] * 10
    assert np.bincount(test_labels).tolist() == [100] * 10
    assert train.min() == 0
    assert train.max() == 1
    assert {image.tobytes() for image in train}.isdisjoint(image.tobytes() for image in test)


def test_mnist_file_is_read_as_it_stands(tmp_path):
    arrays = mnist_file(tmp_path)
    (images, labels), (test_images, test_labels) = datasets.load("mnist", tmp_path)
    np.testing.assert_allclose(images[..., 0] * 255, arrays["x_train"], rtol=1e-6)
    np.testing.assert_allclose(test_images[..., 0] * 255, arrays["x_test"], rtol=1e-6)
    np.testing.assert_array_equal(labels, arrays["y_train"])
    np.testing.assert_array_equal(test_labels, arrays["y_test"])
    assert labels.dtype == np.int64


def test_cifar10_images_are_decoded_in_order(tmp_path):
    colors = RANDOM.integers(0, 256, (5, 1, 1, 3), np.uint8)
    cifar10_file(tmp_path, np.broadcast_to(colors, (5, 32, 32, 3)))
    (images, labels), (_, test_labels) = datasets.load("cifar10", tmp_path)
    assert images.shape == (5, 32, 32, 3)
    np.testing.assert_allclose(images * 255, np.broadcast_to(colors, images.shape), atol=3)
    np.testing.assert_array_equal(labels, np.arange(5))
    np.testing.assert_array_equal(test_labels, np.arange(5))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"cifar10.*digits.*mnist.*Received: name='fashion'"):
        datasets.load("fashion")


def test_digits_take_no_folder(tmp_path):
    with pytest.raises(ValueError, match="leave data_dir out"):
        datasets.load("digits", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_file_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"No {name}.*Received: .*{tmp_path.name}"):
        datasets.load(name, tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_truncated_file_is_refused(kept, tmp_path):
    mnist_file(tmp_path)
    path = tmp_path / "mnist.npz"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"mnist\.npz is truncated or not what it should be"):
        datasets.load("mnist", tmp_path)


def test_file_without_the_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="x_train"):
        datasets.load("mnist", tmp_path)
