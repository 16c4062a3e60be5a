"""The lock that one process at a time holds, with every kind of lock that a system may have."""

import subprocess
import sys
from pathlib import Path

import pytest

from minitox import locks
from minitox.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("of the system", "a file")
# Takes the lock, says so, and holds it until a line arrives
HOLDER = """
import sys
if sys.argv[2] == "a file":
    sys.modules["fcntl"] = sys.modules["msvcrt"] = None
from pathlib import Path
from minitox import locks
from minitox.errors import InputError
try:
    locks.acquire(Path(sys.argv[1]))
except InputError as error:
    sys.exit(str(error))
print("locked", flush=True)
sys.stdin.readline()
"""


def holder(path: Path, kind: str) -> subprocess.Popen:
    """A process that takes the lock and holds it until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_at_a_time_has_the_lock(tmp_path, kind):
    path = tmp_path / "new" / ".lock"
    first = holder(path, kind)
    assert first.stdout.readline() == "locked\n"
    second = holder(path, kind)
    message = second.communicate()[1]
    assert second.returncode == 1
    assert f"{path.parent}: another run is writing there; wait until it ends" in message
    first.communicate("")
    assert first.returncode == 0
    third = holder(path, kind)
    assert third.communicate("")[0] == "locked\n"


def test_a_killed_process_frees_the_lock_of_the_system(tmp_path):
    first = holder(tmp_path / ".lock", "of the system")
    assert first.stdout.readline() == "locked\n"
    first.kill()
    first.communicate()
    assert holder(tmp_path / ".lock", "of the system").communicate("")[0] == "locked\n"


def test_a_lock_file_that_a_killed_process_left_is_named(tmp_path):
    path = tmp_path / ".lock"
    first = holder(path, "a file")
    assert first.stdout.readline() == "locked\n"
    first.kill()
    first.communicate()
    message = holder(path, "a file").communicate()[1]
    assert f"delete {path}, which a killed run left" in message
    path.unlink()
    assert holder(path, "a file").communicate("")[0] == "locked\n"


def test_the_process_that_has_the_lock_may_ask_again_and_a_deleted_file_is_no_lock(tmp_path):
    path = tmp_path / ".lock"
    locks.acquire(path)
    locks.acquire(path)
    assert locks.is_held(path)
    path.unlink()
    assert not locks.is_held(path)
    locks.acquire(path)
    assert locks.is_held(path)


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to("elsewhere")
    with pytest.raises(OSError):
        locks.acquire(tmp_path / ".lock")
    assert not (tmp_path / "elsewhere").exists()


def test_without_locks_of_the_system_the_file_is_created_and_the_advice_names_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    path = tmp_path / ".lock"
    path.touch()
    with pytest.raises(InputError, match="choose another folder; .*delete .*lock"):
        locks.acquire(path, "choose another folder")
