"""Racing: when a candidate is clearly worse than the best one so far, on the trainings that both have finished."""

from collections.abc import Sequence

LEVEL = 0.1
"""A candidate is out below this p-value, as in Optuna's WilcoxonPruner."""


def worse_by_chance(differences: Sequence[float]) -> float:
    """p-value of the one-sided Wilcoxon signed-rank test (1945) that paired `differences` lie above 0, in [0, 1].

    `differences` are ``ln FID`` of a candidate less that of the best one, same task and seed. The smallest p-value of
    n of them is ``2^-n``, so that fewer than four never fall below `LEVEL`. 1 where all are 0.

    A race looks again after every training, so that more candidates than the level says are out by chance: of those as
    good as the best one, about one in seven in races of 8 trainings, and one in four in races of 16.
    """
    from scipy.stats import wilcoxon

    if not any(differences):
        return 1.0
    return float(wilcoxon(differences, alternative="greater", method="auto").pvalue)
