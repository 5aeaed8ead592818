"""How good samples are: features of images, and the distance between two sets of them."""

from metaopt.metrics.features import FeatureExtractor, SmallFeatures, small_features
from metaopt.metrics.frechet import Moments, RealStatistics, frechet_distance
from metaopt.metrics.real_statistics import default_cache_dir, real_statistics

__all__ = [
    "FeatureExtractor",
    "Moments",
    "RealStatistics",
    "SmallFeatures",
    "default_cache_dir",
    "frechet_distance",
    "real_statistics",
    "small_features",
]
