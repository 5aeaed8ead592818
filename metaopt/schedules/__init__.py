"""Which controls to use when: pure functions on plain floats. Standard library only."""

from metaopt.schedules.artifact import SHIPPED, ScheduleArtifact, load_schedule, save_schedule
from metaopt.schedules.baselines import BASELINES, NamedSchedule, as_point_of, find_schedule, named_schedule
from metaopt.schedules.families import FAMILIES, Family, build_schedule, check_params, find_family
from metaopt.schedules.parameter import Parameter
from metaopt.schedules.types import Controls, Schedule, Signals, State

__all__ = [
    "BASELINES",
    "FAMILIES",
    "SHIPPED",
    "Controls",
    "Family",
    "NamedSchedule",
    "Parameter",
    "Schedule",
    "ScheduleArtifact",
    "Signals",
    "State",
    "as_point_of",
    "build_schedule",
    "check_params",
    "find_family",
    "find_schedule",
    "load_schedule",
    "named_schedule",
    "save_schedule",
]
