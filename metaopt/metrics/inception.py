"""The features `inception`: torch-fidelity's InceptionV3, for numbers that others publish."""

import os
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ArtifactError, MissingPackageError
from metaopt.metrics.features import full_precision
from metaopt.metrics.small_network import check_images

DIM = 2048
N_LOGITS = 1008
_LAYERS = ("2048", "logits_unbiased")
_BATCH_SIZE = 25


class InceptionFeatures:
    """2048 pooled features and 1008 logits of the network of the original FID (Heusel et al. 2017).

    Images are resized to 299 x 299 as TensorFlow 1 did it; gray ones become three equal channels.
    """

    dim = DIM
    n_logits = N_LOGITS

    def __init__(self, file: str = "") -> None:
        """Take weights from `file`; "": from torch's own cache, where torch-fidelity downloads them to."""
        self._file = file

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "inception"

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the file of weights."""
        return _version(str(weights_file(self._file)))

    def __call__(self, images: Tensor) -> Tensor:
        """Features float32 ``(n, 2048)`` of images uint8 ``(n, c, h, w)``, on the same device."""
        return self.features_and_logits(images)[0]

    @torch.no_grad()
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(n, 2048)`` and logits without bias ``(n, 1008)`` in one pass.

        Raises:
            ConfigError: dtype or shape of `images`.
            MissingPackageError: torch-fidelity is not installed.
            ArtifactError: the weights are not there or not whole; the message says how to get them.
        """
        check_images(images)
        net = _net_on(str(weights_file(self._file)), images.device)
        with torch.autocast(images.device.type, enabled=False), full_precision():
            parts = [net(batch.expand(-1, 3, -1, -1)) for batch in torch.split(images, _BATCH_SIZE)]
        features, logits = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(logits)


def weights_file(file: str) -> Path:
    """The file of weights; ArtifactError where it is missing, with the address that it comes from."""
    address = _network_module().URL_INCEPTION_V3
    name = address.rpartition("/")[2]
    found = Path(file).expanduser() if file else Path(torch.hub.get_dir()) / "checkpoints" / name
    try:
        there = found.is_file()
    except OSError as error:
        raise ArtifactError(f"{str(found)[:200]} cannot be read: {error.strerror}.") from error
    if not there:
        raise ArtifactError(
            f"{found} must hold the weights of the features `inception`, but there is no such file. Fetch"
            f" {address} and put it there, or point to it with `inception:FILE`."
        )
    return found


def _network_module() -> Any:
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise MissingPackageError("The features `inception` need: pip install 'metaopt[inception]'") from error
    return feature_extractor_inceptionv3


@lru_cache(maxsize=8)
def _version(file: str) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=2)
def _net_on(file: str, device: torch.device) -> Any:
    module = _network_module()
    _check_weights(file)
    try:
        net = module.FeatureExtractorInceptionV3("inception", list(_LAYERS), feature_extractor_weights_path=file)
    except (RuntimeError, OSError) as error:
        raise ArtifactError(f"{file} must hold the weights of torch-fidelity's InceptionV3, but: {error}") from error
    return net.to(device)


def _check_weights(file: str) -> None:
    """torch-fidelity unpickles whatever is in the file: refuse first what is more than tensors."""
    try:
        torch.load(os.fspath(file), map_location="cpu", weights_only=True)
    except Exception as error:  # damage takes the parsers of zip and pickle anywhere
        raise ArtifactError(f"{file} must be a whole file of weights and nothing else, but: {error}") from error
