"""The errors that metaopt raises on purpose. Anything else that escapes is a bug."""


class MetaoptError(Exception):
    """Root of all errors that carry a message for the user."""


class ConfigError(MetaoptError, ValueError):
    """What the user wrote breaks a rule: a study, an option, a parameter."""


class DataError(ConfigError):
    """A data file or folder cannot be used as a data set."""


class ArtifactError(ConfigError):
    """A schedule file, checkpoint or cache entry cannot be used."""


class BudgetError(MetaoptError):
    """A search may take no more time before it has found anything."""


class StorageError(MetaoptError, OSError):
    """The disk is full or not writable; what was finished is kept and the work can be resumed."""


class MissingPackageError(MetaoptError, ImportError):
    """A package that the called part needs is not installed; the message says what to type."""
