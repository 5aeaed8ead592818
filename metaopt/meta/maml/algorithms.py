"""ALGORITHMS: name -> what is learned and how its outer gradient is taken. The one literal table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from metaopt.errors import ConfigError
from metaopt.gan.choice import unknown
from metaopt.meta.maml.inner import Derivatives


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A way to learn an initialisation."""

    derivatives: Derivatives
    """Of the inner loop; "none" is Reptile, or joint training."""
    joint: bool = False
    """Whether it is trained on all tasks at once, with no inner loop: what people do who fine-tune."""
    rates: Literal["", "weights", "steps"] = ""
    """What has a learned multiplier of the inner rate: nothing, each weight, or each tensor at each step."""
    head_only: bool = False
    """Whether inner loops move the head alone."""
    multi_step: bool = False
    """Whether the query loss counts after each inner step, and less and less so but for the last."""
    source: str
    """Where it was published."""


ALGORITHMS: Mapping[str, Algorithm] = {
    "joint": Algorithm(derivatives="none", joint=True, source="pretraining on all tasks together"),
    "maml": Algorithm(derivatives="second", source="Finn, Abbeel & Levine, ICML 2017"),
    "fomaml": Algorithm(derivatives="first", source="the same, without second derivatives"),
    "reptile": Algorithm(derivatives="none", source="Nichol, Achiam & Schulman 2018; for GANs: FIGR, Clouatre 2019"),
    "meta_sgd": Algorithm(derivatives="second", rates="weights", source="Li, Zhou, Chen & Li 2017"),
    "anil": Algorithm(derivatives="second", head_only=True, source="Raghu, Raghu, Bengio & Vinyals, ICLR 2020"),
    "maml_plus": Algorithm(
        derivatives="second",
        rates="steps",
        multi_step=True,
        source="Antoniou, Edwards & Storkey, ICLR 2019: multi-step loss, rates by layer and step",
    ),
}


OPTIONS: Mapping[str, Mapping[str, Any]] = {"multi_step": {"multi_step": True}, "step_rates": {"rates": "steps"}}
"""What MAML++ adds, for any algorithm that differentiates a query loss."""


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name, with options as in ``fomaml+multi_step+step_rates``.

    ConfigError naming the nearest one if there is none, and where an option does not go with it.
    """
    base, *options = name.split("+")
    if base not in ALGORITHMS:
        raise ConfigError(unknown("algorithm", base, ALGORITHMS))
    found = ALGORITHMS[base]
    for option in options:
        if option not in OPTIONS:
            raise ConfigError(unknown(f"option of {base!r} called", option, OPTIONS))
        if found.derivatives == "none":
            raise ConfigError(f"`{option}` goes with algorithms that differentiate a query loss, not with {base!r}.")
        if option == "step_rates" and found.rates:
            raise ConfigError(f"`step_rates` goes with algorithms that learn no rates, but {base!r} learns them.")
        found = replace(found, **OPTIONS[option])
    return found
