"""ALGORITHMS: name -> what is learned and how its outer gradient is taken. The one literal table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name; ConfigError naming the nearest one if there is none."""
    if name not in ALGORITHMS:
        raise ConfigError(unknown("algorithm", name, ALGORITHMS))
    return ALGORITHMS[name]
