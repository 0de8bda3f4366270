"""The errors a user can cause, and the exit codes that tell a script what happened.

Every message says what failed and where, what was expected and what was found, and what to run next.
Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import signal

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3  # done, but some inputs failed: they are rows of `failures`
EXIT_INTERRUPTED = 130  # by Ctrl-C, as shells count it


class FeatureStoreError(Exception):
    """Something the user can mend; its text is the whole message.

    Parameters
    ----------
    message : str
        What failed, on which file, what was expected and found.
    hint : str
        What to do next.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # joblib sends exceptions between processes; the default would lose the hint
        return type(self), (self.message, self.hint)


class UsageError(FeatureStoreError):
    """The command line itself is wrong (exit code 2)."""

    exit_code = EXIT_USAGE


class MissingStore(FeatureStoreError):
    """There is no store at the place named."""


class MissingInput(FeatureStoreError):
    """An input that another command makes is not there; the hint names that command."""


class SpecMismatch(FeatureStoreError):
    """Two sets of measured values were made with different numbers and must not be mixed."""


class StoreBusy(FeatureStoreError):
    """Another build holds the store."""


class StoreDamaged(FeatureStoreError):
    """A file of the store is not what was committed."""


class Ended(KeyboardInterrupt):
    """The process was asked to end by a signal, SIGTERM or SIGHUP. What Ctrl-C cleans up is cleaned up.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number  # as shells count it


class AudioError(Exception):
    """One audio file cannot be measured. Becomes a row of `failures`, never a stop.

    Parameters
    ----------
    stage : str
        One of `schemas.FAILURE_STAGES`.
    kind : str
        One of `schemas.FAILURE_KINDS`.
    message : str
    """

    def __init__(self, stage: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.stage, self.kind, self.message)


_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "s3fs")


def of_system(error: BaseException) -> FeatureStoreError | None:
    """Put what a disk, a network or an object store answered into a message.

    Storage clients raise errors of their own (no credentials, no connection) beside OSError.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    FeatureStoreError or None
        None if `error` is nothing of that kind.
    """
    text = str(error) or type(error).__name__
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        return FeatureStoreError(
            f"the object store cannot be used: {text}",
            "Check its address, the credentials and the network; nothing half-written is visible. Then run it again.",
        )
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else text
        return FeatureStoreError(what, "Check the path, its permissions and the disk. Then run the command again.")
    return None
