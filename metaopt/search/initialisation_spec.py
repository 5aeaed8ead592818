"""What may stand in a study file of ``kind: initialisation``. Pydantic at this edge only."""

from typing import Annotated, Literal

from pydantic import Field

from metaopt.search.study_spec import (
    NAME,
    CorruptionSpec,
    HangLimit,
    RangeSpec,
    ResourcesSpec,
    Retries,
    Spec,
    TimeBudget,
    TrackingSpec,
)

_Whole = Annotated[int, Field(ge=1)]


class GroupsSpec(Spec):
    """A data set that few-shot tasks are drawn from."""

    data: str
    """A name that `metaopt data` lists, `npz:FILE`, `npy:FILE`, `folder:DIR`, `readable:DIR` or `hf:NAME`."""
    classes: list[int] | Annotated[str, Field(pattern=r"^(all|\d+-\d+)$")] | None = None
    """Each is a group of its own: a list, a range as in `0-39`, or `all`. The whole set is one group if left out."""


class EpisodesSpec(Spec):
    """Few-shot tasks."""

    train: Annotated[list[GroupsSpec], Field(min_length=1)]
    """What is learned on."""
    validation: Annotated[list[GroupsSpec], Field(min_length=1)]
    """What trials are judged on; it shares no images with `train`."""
    test: list[GroupsSpec] = Field(default=[])
    """What the best trial is compared with the reference on, once, at the end; it shares no images with the others."""
    size: int
    """Width and height of the images in pixels."""
    channels: Literal[1, 3] = 1
    """Gray or colour; data sets are made so."""
    shots: _Whole = 25
    """Images to adapt to."""
    query: _Whole = 50
    """Other images of the group, for the outer loss."""
    batch: _Whole = 16
    """Images of one update."""
    corruption: Annotated[list[CorruptionSpec], Field(min_length=1)] = Field(default=[CorruptionSpec()])
    """The images to adapt to have one of these, each as likely; `{}` is none."""


class NetworksSpec(Spec):
    """The pair and its loss."""

    network: str = "mlp"
    """`mlp`, `dcgan`, or `package.module:function` of your own, without batch norm or spectral norm."""
    width: _Whole = 64
    z_dim: _Whole = 16
    norm: Literal["group", "none"] = "none"
    """Normalisation in both networks."""
    loss: str = "non_saturating"
    """`non_saturating`, `minimax`, `lsgan`, `wgan_gp` or `hinge`."""
    r1: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the R1 gradient penalty."""


class LearningSpec(Spec):
    """How long a start is learned, and how it is judged."""

    iterations: _Whole
    """Outer iterations; joint training gets as many updates as there are inner steps in them."""
    meta_batch: _Whole = 4
    """Episodes of an outer iteration."""
    adapt_steps: _Whole = 50
    """Steps of the adaptations that a start is judged by."""
    n_samples: Annotated[int, Field(ge=2)] = 200
    """Generated images of each."""
    features: str = "small"


class InnerSpec(Spec):
    """The schedule of the inner loop, and what varies besides."""

    family: str = "constant"
    """Name of a family of schedules."""
    ranges: dict[str, float | RangeSpec] = Field(default={})
    """Parameter -> range, or a number to hold it there. The family's own ranges otherwise."""
    steps: _Whole | RangeSpec = RangeSpec(low=3, high=10)
    """Inner steps, whole numbers."""


class InitialisationSearchSpec(Spec):
    """How it is searched."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    """Trials in all, the reference included."""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    time_budget_s: TimeBudget = None
    evaluation_limit_s: HangLimit = None
    retries: Retries = 0
    resources: ResourcesSpec = ResourcesSpec()


class InitialisationStudySpec(Spec):
    """A study file that searches for where training should start."""

    format: Literal["metaopt.study/1"] = "metaopt.study/1"
    kind: Literal["initialisation"]
    name: Annotated[str, Field(pattern=NAME)]
    description: str = ""
    episodes: EpisodesSpec
    networks: NetworksSpec = NetworksSpec()
    learning: LearningSpec
    algorithms: Annotated[list[str], Field(min_length=1)] = Field(
        default=["joint", "maml", "fomaml", "reptile", "meta_sgd"]
    )
    """Which are tried: `joint`, `maml`, `fomaml`, `reptile`, `meta_sgd`, `anil`, `maml_plus`; with MAML++'s options as
    in `fomaml+multi_step+step_rates`."""
    inner: InnerSpec = InnerSpec()
    outer_lr: float | RangeSpec = RangeSpec(low=1e-4, high=1e-2)
    """Learning rate of the outer Adam, searched on a log scale."""
    adam_lr: float | RangeSpec = RangeSpec(low=3e-4, high=3e-2)
    """Learning rate of both players where Adam adapts them (`joint`), in place of the inner schedule's, likewise."""
    reference: dict[str, float | str]
    """The trial that scores are relative to: `algorithm`, `outer_lr`, `adam_lr`, `inner_steps` and each parameter of
    the inner schedule."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of first weights and episodes; the same for all trials."""
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 3
    """Judgements of a trial, equally spaced, the last at its end."""
    search: InitialisationSearchSpec
    tracking: TrackingSpec = TrackingSpec()

    @property
    def seeds(self) -> list[int]:
        """As studies of schedules have them."""
        return [self.seed]
