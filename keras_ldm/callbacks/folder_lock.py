"""A folder for one process at a time."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """Keeps other processes out of a folder.

    It is a POSIX lock on the file `.lock`, which the system takes away when the process ends, however it
    ends; processes that it forks do not have it. Where the system or the file system has no such locks,
    nobody is kept out.

    Args:
        folder: made when it is locked, if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Locks, until `release` or the end of the process.

        Raises:
            ValueError: if another process has the folder.
            OSError: if nothing can be written there.
        """
        if fcntl is None or self._descriptor is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            other = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"Expected a folder that no other process trains into. Received: "
                    f"{str(self.path.parent)!r}, which has {other or 'one'}"
                ) from None
            return
        self._descriptor = descriptor
        with suppress(OSError):  # such as a full disk: the lock is there without
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Lets others in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
