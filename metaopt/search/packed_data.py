"""Data that came with a job, found at one path on every node.

Ray puts a job's files elsewhere on each node and in each session, and a study knows its data by their path. Light, as
every process of a job imports it first; as ``python -m metaopt.search.packed_data`` it is the driver's first command.
"""

import os
from pathlib import Path

DATA = "data"
_LINKS = Path("/tmp")


def place_of(name: str) -> Path:
    """Where the packed data of that name are found on every node."""
    return _LINKS / f"metaopt-{name}"


def link_data() -> None:
    """Make packed data be found at their place; the working folder is the job's."""
    data = Path.cwd() / DATA
    for item in data.iterdir() if data.is_dir() else ():
        link = place_of(item.name)
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(item)
        fresh.replace(link)  # whole at any moment, as other processes do the same


if __name__ == "__main__":
    link_data()
