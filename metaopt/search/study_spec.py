"""What may stand in a study file. Pydantic at this edge only; the search itself works on `Study`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Spec(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TaskSpec(_Spec):
    """One training problem. What is left out comes from the named task or the default for that data."""

    data: str
    """`digits`, `mnist5k`, `npz:FILE` or `folder:DIR`."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """Shown in tables and metric names; from the data if left out."""
    size: int | None = None
    """Width and height of the images in pixels."""
    network: str | None = None
    """`mlp` or `dcgan`."""
    width: int | None = None
    z_dim: int | None = None
    loss: str | None = None
    batch: int | None = None
    """Images per update."""
    budget: int | None = None
    """Iterations: the compute of one D update plus one G update each."""
    n_samples: int | None = None
    """Generated images per FID."""
    beta1: float | None = None
    beta2: float | None = None


class RangeSpec(_Spec):
    """Where a parameter is searched."""

    low: float
    high: float
    log: bool | None = None
    """Search on a log scale; the family's own choice if left out."""


class ScheduleSpec(_Spec):
    """What varies."""

    family: str
    """Name of a family, `constant`, `power_decay`, `cosine`, `ttur`, `knots` or `gap_aware`."""
    ranges: dict[str, float | RangeSpec] = {}
    """Parameter -> range, or a number to hold it there. The family's own ranges otherwise."""


class ResourcesSpec(_Spec):
    """What one trial occupies."""

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU; 0 trains on the CPU."""


class SearchSpec(_Spec):
    """How it is searched."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    """Trials in all, the reference schedules included."""
    sampler: Literal["tpe", "random", "cmaes", "gp"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at once; `auto` fills the machine."""
    resources: ResourcesSpec = ResourcesSpec()


class TrackingSpec(_Spec):
    """Where numbers go."""

    uri: str | None = None
    """MLflow tracking URI; MLFLOW_TRACKING_URI, or else an SQLite file in the output folder, if left out."""


class StudySpec(_Spec):
    """A study file."""

    format: Literal["metaopt.study/1"] = "metaopt.study/1"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Letters, digits, dots, dashes and underscores; also the name of the MLflow experiment."""
    description: str = ""
    tasks: Annotated[list[TaskSpec], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """Each task is trained with each seed; all candidates with the same ones."""
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 4
    """FID evaluations per training, equally spaced, the last at the end."""
    schedule: ScheduleSpec
    reference: str = "dcgan"
    """Schedule that the score is relative to, and first trial."""
    baselines: list[str] = []
    """Further schedules to run as first trials."""
    search: SearchSpec
    tracking: TrackingSpec = TrackingSpec()
