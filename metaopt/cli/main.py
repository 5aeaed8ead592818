"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once."""

import errno
import sys

import typer

from metaopt.cli import (
    adapt,
    compare,
    data,
    doctor,
    evaluate,
    export,
    jobs,
    report,
    search,
    show,
    simulate,
    sync,
    train,
    ui,
)
from metaopt.errors import ConfigError, MetaoptError

app = typer.Typer(
    name="metaopt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn how the learning rates and the update ratio of a GAN should move during training.",
)
for command in (
    search.search,
    simulate.simulate,
    jobs.submit,
    jobs.status,
    jobs.logs,
    jobs.stop,
    jobs.resume,
    train.train,
    adapt.adapt,
    evaluate.evaluate,
    compare.compare,
    report.report,
    export.export,
    show.show,
    data.data,
    sync.sync,
    doctor.doctor,
    ui.ui,
):
    app.command()(command)


def run() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_said(error, 2))
    except MetaoptError as error:
        sys.exit(_said(error, 1))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        path = str(error.filename)
        sys.exit(_said(ConfigError(f"a path must be shorter than {len(path)} characters, but got {path[:60]!r}..."), 2))
    except KeyboardInterrupt:
        sys.exit(130)


def _said(error: Exception, code: int) -> int:
    print(f"metaopt: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    run()
