"""How good samples are: features of images, and distances between two sets of them."""

from metaopt.metrics.evaluation import METRICS, check_metrics, evaluate, fid_floor, small_sample_warning
from metaopt.metrics.extractors import FEATURES, check_features, find_features
from metaopt.metrics.features import FeatureExtractor, SmallFeatures, small_features
from metaopt.metrics.frechet import Moments, RealStatistics, frechet_distance
from metaopt.metrics.inception_score import InceptionScore, inception_score
from metaopt.metrics.kernel import KernelDistance, kernel_distance, kernel_distance_of, mmd2, p_not_better
from metaopt.metrics.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from metaopt.metrics.modes import Classifier, Modes, fit_classifier, modes
from metaopt.metrics.real_statistics import RealReference, default_cache_dir, real_reference, real_statistics

__all__ = [
    "FEATURES",
    "METRICS",
    "Classifier",
    "DensityCoverage",
    "FeatureExtractor",
    "InceptionScore",
    "KernelDistance",
    "Modes",
    "Moments",
    "PrecisionRecall",
    "RealReference",
    "RealStatistics",
    "SmallFeatures",
    "check_features",
    "check_metrics",
    "default_cache_dir",
    "density_coverage",
    "evaluate",
    "fid_floor",
    "find_features",
    "fit_classifier",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "kernel_distance_of",
    "mmd2",
    "modes",
    "p_not_better",
    "precision_recall",
    "real_reference",
    "real_statistics",
    "small_features",
    "small_sample_warning",
]
