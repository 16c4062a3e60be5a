"""A lock that one process at a time holds, on Linux, macOS and Windows."""

import atexit
import os
from pathlib import Path

from minitox.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # anywhere else
    msvcrt = None

HELD = {}  # process, lock file: its descriptor, open until the process exits


def acquire(path: Path, advice: str = "wait until it ends, or choose another --out") -> None:
    """Take the lock of a file, and hold it until this process exits.

    InputError with `advice` if another process holds it.
    """
    path = Path(path)
    key = os.getpid(), path.absolute()
    if is_held(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None and msvcrt is None:
        HELD[key] = create(path, advice)
        return
    # nothing is written to the file, and a link in its place is not followed
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if fcntl is not None:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise InputError(f"{path.parent}: another run is writing there; {advice}") from None
    HELD[key] = descriptor


def is_held(path: Path) -> bool:
    """Whether this process holds the lock; not if somebody has deleted the file."""
    descriptor = HELD.get((os.getpid(), path.absolute()))  # a fork does not inherit locks
    if descriptor is None:
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def create(path: Path, advice: str) -> int:
    """Without locks of the system: create the lock file, which `release` removes."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise InputError(
            f"{path.parent}: another run is writing there; {advice}; "
            f"if there is none, delete {path}, which a killed run left"
        ) from None
    return descriptor


@atexit.register
def release() -> None:
    """Without locks of the system: remove the lock files of this process."""
    if fcntl is not None or msvcrt is not None:
        return
    for (process, path), descriptor in list(HELD.items()):
        if process != os.getpid():
            continue
        is_ours = is_held(path)
        os.close(descriptor)  # Windows does not remove an open file
        del HELD[process, path]
        if is_ours:
            path.unlink()
