"""A search from its first look at the data to its last number delivered."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaopt.errors import StorageError
from metaopt.search.folder import MANIFEST, claim, locked, manifest_of, read_manifest, remember_tracking, tracking_uri
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.optuna_space import Proposals
from metaopt.search.problems import images
from metaopt.search.session import Session
from metaopt.search.study import Study
from metaopt.tracking import Status, Tracker, check_answers, open_tracker

_PARTING_S = 5.0
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE}


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search whose folder is held by this process."""

    study: AnyStudy
    folder: Path
    tracking_uri: str
    tracker: Tracker
    session: Session

    def run(self, observe: Callable[[Session], None]) -> None:
        """Run trials until the study has all of them; `observe` is called whenever something has happened."""
        from metaopt.search.ray_runner import run_on_ray

        run_on_ray(self.session, observe)


@contextmanager
def opened(study: AnyStudy, folder: Path, *, resume: bool) -> Iterator[Search]:
    """Check the data, take the folder, and open the records. Nothing is written before all input is known to be good.

    Raises:
        ConfigError: the data cannot be used, or the folder is another study's, or in use.
        MetaoptError: the tracking store does not answer, and is required for a study that begins.
        StorageError: the disk is full or not writable; what was finished is kept.
    """
    seen = [images(task) for task in study.tasks]
    identities = [one.identity for one in seen]
    seen += [images(task) for task in study.validation] if isinstance(study, Study) else []
    uri = tracking_uri(study.spec.tracking.uri, folder)
    if study.spec.tracking.required and read_manifest(folder) is None:
        check_answers(uri)
    claim(folder, manifest_of(study, identities), resume=resume)
    with _disk_errors(folder), locked(folder):
        remember_tracking(folder, uri)
        tracker = open_tracker(uri, study.name, folder / "spool")
        status: Status = "FAILED"
        try:
            n_left_out = sum({data: n for one in seen for data, n in one.n_left_out.items()}.values())
            tracker.start_study(
                params={"family": study.family.name, "reference": study.reference.schedule.name},
                tags={
                    "metaopt.study": study.name,
                    "metaopt.study_key": study.key,
                    "metaopt.left_out_images": str(n_left_out),
                },
            )
            session = Session(study, folder, identities, Proposals(folder, study), tracker)
            yield Search(study=study, folder=folder, tracking_uri=uri, tracker=tracker, session=session)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if status != "FINISHED":  # after a success all has been delivered, or reported as waiting
                tracker.end_study(status=status, metrics={}, tags={})
            tracker.close(timeout_s=_PARTING_S)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not (folder / MANIFEST).exists():  # who still writes may have made the folder anew
            raise StorageError(f"{folder} has gone while it was written: put it back.") from error
        if isinstance(error, StorageError) or error.errno not in _DISK:
            raise
        raise StorageError(f"{folder} could not be written: {error.strerror}.") from error
