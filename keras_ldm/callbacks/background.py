"""One job at a time, beside the training."""

import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary


class Background:
    """Runs jobs on a thread of its own, one behind the other.

    The process does not end before the last one has. What a job raises is raised by the next call.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @staticmethod
    def of(folder: Path) -> "Background":
        """The one that works in a folder: whoever writes there in this process has the same."""
        return _BY_FOLDER.setdefault(folder.resolve(), Background())

    def start(self, job: Callable[[], None]) -> None:
        """Starts a job, once the one before is through."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="keras_ldm-background")
        self._thread.start()

    def wait(self) -> None:
        """Returns when nothing runs any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = error


_BY_FOLDER: "WeakValueDictionary[Path, Background]" = WeakValueDictionary()
