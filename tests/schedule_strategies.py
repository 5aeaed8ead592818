"""Hypothesis strategies for families, their parameters, signals and controls, and schedules by name."""

from hypothesis import settings
from hypothesis import strategies as st

from metaopt.schedules import FAMILIES, Controls, Family, Signals
from metaopt.schedules.types import MAX_LR, MAX_UPDATE_RATIO, MIN_UPDATE_RATIO

thorough = settings(deadline=None, max_examples=200)
"""For tests of pure Python, microseconds each; no deadline, as the machine may be busy."""


def params_of(family: Family) -> st.SearchStrategy[dict[str, float]]:
    """Any parameters inside the bounds, the ends often among them."""
    return st.fixed_dictionaries({p.name: st.floats(*p.bounds) for p in family.parameters})


def families_with_params() -> st.SearchStrategy[tuple[Family, dict[str, float]]]:
    """A family and parameters of it."""
    return st.sampled_from(list(FAMILIES.values())).flatmap(lambda f: st.tuples(st.just(f), params_of(f)))


def any_signals() -> st.SearchStrategy[Signals]:
    """Finite signals, far beyond what a training that lives shows."""
    return st.builds(
        Signals,
        progress=st.floats(0, 1),
        loss_gap=st.floats(-1, 1e6),
        d_sign=st.floats(-1, 1),
        d_accuracy=st.floats(0, 1),
        g_loss=st.floats(0, 1e6),
        log_grad_ratio=st.floats(-50, 50),
        ideal_d_loss=st.sampled_from([0.0, 0.25, 1.3862943611198906, 2.0]),
        kid_tests=st.integers(0, 40).map(float),
        kid_p=st.floats(0, 1),
    )


def any_controls(max_lr_d: float = MAX_LR) -> st.SearchStrategy[Controls]:
    """Controls that a family's parameters may hold."""
    return st.builds(
        Controls,
        lr_g=st.floats(1e-8, MAX_LR),
        lr_d=st.floats(1e-8, max_lr_d),
        update_ratio=st.one_of(st.just(1.0), st.floats(MIN_UPDATE_RATIO, MAX_UPDATE_RATIO)),
    )
