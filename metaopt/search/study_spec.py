"""What may stand in a study file. Pydantic at this edge only; the search itself works on `Study`."""

from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from metaopt.tracking.redact import SECRETS

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Of a study or a task, which is also part of a path and of a metric's name."""


class Spec(BaseModel):
    """Part of a study file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class CorruptionSpec(Spec):
    """What is wrong with the images that are trained on; FID and all other metrics compare with clean ones."""

    noise: float | None = None
    """Standard deviation of noise added to pixels in [-1, 1]."""
    missing_pixels: float | None = None
    """Share of the pixels."""
    missing_patches: float | None = None
    """Share of the area."""
    n_kept: int | None = None
    """Number of images kept; the others are missing."""
    label_noise: float | None = None
    """Share of the images whose class is another one's."""
    foreign: float | None = None
    """Share of the images that come from `foreign_data`."""
    foreign_data: str | None = None
    """A data set, as in `data`."""
    seed: int | None = None


class TaskSpec(Spec):
    """One training problem. What is left out comes from the named task or the default for that data."""

    data: str
    """A name that `metaopt data` lists, `npz:FILE`, `npy:FILE`, `folder:DIR`, `readable:DIR` or `hf:NAME`."""
    name: Annotated[str, Field(pattern=NAME)] | None = None
    """Shown in tables and metric names; from the data if left out."""
    size: int | None = None
    """Width and height of the images in pixels."""
    corruption: CorruptionSpec | None = None
    augment: str | None = None
    """Augmentations of the real images: `flip`, `crop` or `flip,crop`."""
    network: str | None = None
    """`mlp`, `dcgan`, `sngan`, or `package.module:function` of your own."""
    width: int | None = None
    z_dim: int | None = None
    conditional: bool | None = None
    """Whether both networks are told the class of each image."""
    norm_g: Literal["batch", "group", "none"] | None = None
    """Normalisation in the generator; the network's own if left out."""
    norm_d: Literal["batch", "group", "none"] | None = None
    """Normalisation in the discriminator, likewise."""
    spectral_norm: bool | None = None
    """Spectral norm on the discriminator, likewise."""
    loss: str | None = None
    """`non_saturating`, `minimax`, `lsgan`, `wgan`, `wgan_gp` or `hinge`."""
    r1: float | None = None
    """Weight of the R1 gradient penalty."""
    diff_augment: str | None = None
    """Differentiable augmentations of all that the discriminator sees: of `color`, `translation`, `cutout`."""
    ema: float | None = None
    """Memory of the average of the generator that is evaluated, as a share of the budget; 0: the generator itself."""
    lookahead: int | None = None
    """Generator updates between two steps of both players to their slow weights (Lookahead-Minmax); 0: none."""
    batch: int | None = None
    """Images per update."""
    budget: int | None = None
    """Iterations: the compute of one D update plus one G update each."""
    n_samples: int | None = None
    """Generated images per evaluation."""
    features: str | None = None
    """What images are compared by: `small`, `lite0`, `inception`, or `package.module:name` of your own."""
    metrics: list[str] | None = None
    """Measured at each evaluation: `fid`, `kid`, `inception_score`, `precision_recall`, `density_coverage`, `modes`."""
    beta1: float | None = None
    beta2: float | None = None


class RangeSpec(Spec):
    """Where a parameter is searched."""

    low: float
    high: float
    log: bool | None = None
    """Search on a log scale; the family's own choice if left out."""


class ScheduleSpec(Spec):
    """What varies."""

    family: str
    """Name of a family: `constant`, `power_decay`, `residual`, `linear_policy`, `network_policy`, `cosine`, `ttur`,
    `knots`, `steps`, `gap_aware`, `sign_control`, `loss_change` or `kid_halving`."""
    start: str | None = None
    """A schedule.json or a name, of a family that this one extends: what the search departs from. It is the reference
    and the first trial, and its parameters are held unless `ranges` names them."""
    ranges: dict[str, float | RangeSpec] = {}
    """Parameter -> range, or a number to hold it there. The family's own ranges otherwise."""


class ResourcesSpec(Spec):
    """What one trial occupies."""

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU, or whole ones; 0 trains on the CPU. A process with a share gets no more of the memory."""
    memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Host memory in MiB that is set aside for it; none is counted if left out."""


Resources = Annotated[
    ResourcesSpec | Literal["auto"],
    Field(
        description="What one trial occupies; `auto` measures it by one short training of each task, and fills a GPU, "
        "where there is one, with as many trials as its memory holds."
    ),
]

TimeBudget = Annotated[
    float | None,
    Field(
        gt=0,
        description="Seconds after which no trial begins, and those that run end at their next evaluation, which "
        "counts as a pruned trial's does; with `--resume` the seconds begin anew.",
    ),
]

HangLimit = Annotated[
    float | None,
    Field(
        gt=0,
        description="Seconds in which a trial must reach its next evaluation. One that does not is ended, and run once "
        "more, and then recorded as an error.",
    ),
]


Retries = Annotated[
    int,
    Field(
        ge=0,
        description="How often a training of the search whose code raises is run again before that is an error.",
    ),
]


class PopulationSpec(Spec):
    """Members that are trained together: at each evaluation the worst ones go on as copies of the best."""

    method: Literal["pbt", "pb2"]
    """How a copy's controls are changed: `pbt` draws or multiplies them at random, `pb2` proposes them by a Gaussian
    process over controls and time."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Of the members, that is replaced at each evaluation but the last."""
    factors: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [0.8, 1.2]
    """What `pbt` multiplies a control by: one of these."""
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability with which `pbt` draws a control anew from its range instead."""
    first: str | None = None
    """Folder of a finished study of constant schedules, whose best trials are the first members; what it lacks is drawn
    at random."""


NO_PART_OF_THE_KEY = {"trials", "workers", "time_budget_s", "gpu_budget_s", "evaluation_limit_s", "retries"}
"""Keys of `search` that may change when a study goes on."""


class SearchSpec(Spec):
    """How it is searched."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    """Trials in all, the reference schedules included."""
    sampler: Literal["tpe", "random", "cmaes", "gp", "es", "nsga2"] = "tpe"
    """Who proposes candidates; `cmaes` and `es` (antithetic evolution strategies) start at the reference, `nsga2` is
    for several objectives."""
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at once; `auto` fills the machine."""
    time_budget_s: TimeBudget = None
    gpu_budget_s: Annotated[float, Field(gt=0)] | None = None
    """GPU-seconds after which the search ends as by `time_budget_s`: the seconds of all trainings, each times the share
    of a GPU that its trial takes. With `--resume` they begin anew."""
    evaluation_limit_s: HangLimit = None
    retries: Retries = 0
    resources: Resources = ResourcesSpec()
    objective: Literal["mean", "mean_tail", "worst"] = "mean"
    """Of the tasks' ln FID ratios: their mean, half their mean and half the mean of the worst ones, or the worst."""
    tail: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the tasks that are the worst ones, for `mean_tail`."""
    objectives: Annotated[list[Literal["quality", "compute", "robustness"]], Field(min_length=1)] = ["quality"]
    """What is minimised, `quality` first: the score; the share of the budget after which a training is as good as the
    reference at its end, as a mean logarithm; the score on tasks with corruption, `quality` being that of the others.
    Several have a front of trials of which none is worse than another in all of them."""
    pruner: Literal["none", "asha", "hyperband", "median"] = "none"
    """Stop a candidate at an evaluation where its score is not among the best third of those seen there (`asha`;
    `hyperband`, in brackets of different patience), or is worse than their median (`median`, from the sixth trial)."""
    horizons: list[Annotated[float, Field(gt=0, le=1)]] = [1.0]
    """Shares of the tasks' budgets, ascending to 1: a candidate first does complete trainings of the shortest, and the
    pruner looks after each horizon, since a schedule that decays at its end cannot be judged half-way."""
    racing: bool = False
    """Train a candidate on one task and seed after the other, and stop it once it is clearly worse than the best."""
    population: PopulationSpec | None = None
    """Train all trials but the published schedules together, as a population. Their controls change at evaluations; the
    family must be `constant`, and `sampler`, `pruner`, `racing`, `horizons` and the budgets left out."""


class ValidationSpec(Spec):
    """Who wins: the best trials again, on fresh seeds and on tasks that the search has not seen."""

    tasks: list[TaskSpec] = Field(default_factory=list)
    """Whole data sets apart from those of the search; the winner is chosen on these, or on the one left out."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """None of them one of the search's."""
    top: Annotated[int, Field(ge=1)] = 5
    """Trials that are trained again, besides the reference."""


class TrackingSpec(Spec):
    """Where numbers go."""

    uri: str | None = None
    """MLflow tracking URI, without a password; MLFLOW_TRACKING_URI, or an SQLite file in the folder, if left out."""
    required: bool = False
    """Do not begin where the server or database does not answer. Once begun, a search goes on without it, also by
    `--resume`, and delivers later."""

    @field_validator("uri")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        parts = urlsplit(uri or "")
        in_query = any(secret in name.lower() for name, _ in parse_qsl(parts.query) for secret in SECRETS)
        if parts.password is not None or in_query:
            raise PydanticCustomError(
                "password", "must hold no password, which MLFLOW_TRACKING_URI or MLFLOW_TRACKING_PASSWORD may"
            )
        return uri


class StudySpec(Spec):
    """A study file."""

    format: Literal["metaopt.study/1"] = "metaopt.study/1"
    kind: Literal["schedule"] = "schedule"
    """What is searched for; `initialisation` has keys of its own."""
    name: Annotated[str, Field(pattern=NAME)]
    """Letters, digits, dots, dashes and underscores; also the name of the MLflow experiment."""
    description: str = ""
    tasks: Annotated[list[TaskSpec], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """Each task is trained with each seed; all candidates with the same ones."""
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 4
    """FID evaluations per training, equally spaced, the last at the end."""
    schedule: ScheduleSpec
    reference: str = "dcgan"
    """Schedule that the score is relative to, and first trial: a name or a schedule.json."""
    baselines: list[str] = []
    """Further schedules to run as first trials."""
    search: SearchSpec
    validation: ValidationSpec | None = None
    """How the winner is chosen; by the score in the search if left out."""
    tracking: TrackingSpec = TrackingSpec()
