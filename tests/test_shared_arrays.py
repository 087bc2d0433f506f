"""Arrays that processes share: one maker, one file, one copy of the pages; and nothing stale or torn is ever read."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from workers import shared_arrays
from workers.shared_arrays import PAGE, Shared, share

KINDS: dict[str, Any] = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "one channel": np.ascontiguousarray(
        np.arange(60.0).reshape(3, 4, 5, 1).transpose(0, 3, 1, 2)
    ),  # (20, 1, 5, 1)
    "classes": np.arange(5),
    "none": np.zeros((4, 0)),
    "number": np.array(7),
    "truth": np.array(True),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of this test lie: any arrays are worth one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shared_arrays, "WORTH_A_FILE", 0)
    return tmp_path / f"tiny-subspace-data-{os.getuid()}"


def made(value: float = 1.0) -> Callable[[], dict[str, Any]]:
    return lambda: {"x": np.full(1000, value)}


def unexpected() -> Any:
    pytest.fail("made again")


def own(shared: Shared) -> str:
    """The note of arrays that are not shared."""
    assert shared.held is None
    return shared.note or ""


def files(folder: Path) -> list[str]:
    """But for locks, which are empty."""
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


def process(tmp_path: Path, program: str) -> subprocess.Popen[str]:
    """Runs `program` with everything that the tests above have."""
    setting = f"""
import os, signal, sys, tempfile, time
from pathlib import Path
import numpy as np
from workers import shared_arrays
tempfile.tempdir, shared_arrays.WORTH_A_FILE, folder = {str(tmp_path)!r}, 0, Path({str(tmp_path)!r})
"""
    return subprocess.Popen(
        [sys.executable, "-c", setting + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(shared_arrays.__file__).parent.parent)},
    )


def test_processes_make_arrays_once_and_map_one_file(tmp_path: Path, folder: Path) -> None:
    program = """
def make():
    with open(folder / "made", "a") as file:
        file.write("once\\n")
    time.sleep(0.2)  # the others ask meanwhile
    return {"x": np.arange(100_000.0)}
shared = shared_arrays.share(lambda: "key", make)
inodes = {line.split()[4] for line in open("/proc/self/maps") if line.endswith("-data-%d/key\\n" % os.getuid())}
print(*inodes, shared.arrays["x"].sum(), shared.note, flush=True)
sys.stdin.readline()
"""
    running = [process(tmp_path, program) for _ in range(3)]
    said = [one.stdout.readline().split() for one in running if one.stdout]
    assert said == [[str((folder / "key").stat().st_ino), str(np.arange(100_000.0).sum()), "None"]] * 3
    assert (tmp_path / "made").read_text() == "once\n"
    for one in running:
        one.communicate("\n")
    # with nobody left the file is not read any more
    assert share(lambda: "key", made(2)).arrays["x"][0] == 2


def test_mapped_arrays_are_those_that_were_made() -> None:
    shared = share(lambda: "key", lambda: KINDS)
    for found in (shared, share(lambda: "key", unexpected)):
        assert found.held is not None
        assert found.arrays.keys() == KINDS.keys()
        for name, array in found.arrays.items():
            np.testing.assert_array_equal(array, KINDS[name], strict=True)
            assert array.strides == KINDS[name].strides
            assert array.ctypes.data % PAGE == 0


def test_who_writes_into_them_changes_nobody_elses() -> None:
    first = share(lambda: "key", made(1))
    second = share(lambda: "key", unexpected)
    first.arrays["x"][:] = 5
    third = share(lambda: "key", unexpected)
    assert (first.arrays["x"][0], second.arrays["x"][0], third.arrays["x"][0]) == (5, 1, 1)


def test_a_process_killed_while_writing_leaves_nothing_that_is_read(tmp_path: Path, folder: Path) -> None:
    program = """
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
shared_arrays.share(lambda: "key", lambda: {"x": np.zeros(1000)})
"""
    killed = process(tmp_path, program)
    killed.communicate()
    assert killed.returncode == -9
    assert len(files(folder)) == 1
    shared = share(lambda: "key", made(2))
    assert shared.arrays["x"][0] == 2
    assert files(folder) == ["key"]


def test_a_file_that_nobody_uses_is_never_read(folder: Path) -> None:
    shared = share(lambda: "key", made(1))
    whole = (folder / "key").read_bytes()
    del shared
    (folder / "key").write_bytes(whole.replace(np.array(1.0).tobytes(), np.array(9.0).tobytes()))
    assert share(lambda: "key", made(2)).arrays["x"][0] == 2


def test_who_removes_what_nobody_uses_takes_nothing_away_that_has_just_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = tempfile.mkstemp, []

    def slowly(**options: Any) -> tuple[int, str]:
        begun.append(begin(**options))
        if len(begun) == 1:  # before it is locked
            shared_arrays._remove_unused(folder)
        return begun[-1]

    monkeypatch.setattr(tempfile, "mkstemp", slowly)
    assert share(lambda: "key", made()).held is not None
    assert len(begun) == 2
    assert files(folder) == ["key"]


@pytest.mark.parametrize("keep", ["arrays", "held"])
def test_a_file_stays_while_it_is_used(keep: str, folder: Path) -> None:
    first: Any = share(lambda: "first", made(1))
    kept = getattr(first, keep)
    del first
    second = share(lambda: "second", made(2))
    assert files(folder) == ["first", "second"]
    del kept
    third = share(lambda: "third", made(3))
    assert files(folder) == ["second", "third"]
    assert (second.arrays["x"][0], third.arrays["x"][0]) == (2, 3)


def test_arrays_outlive_their_file(folder: Path) -> None:
    shared = share(lambda: "key", made(1))
    (folder / "key").unlink()  # by whoever cleans up temporary folders
    again = share(lambda: "key", made(2))
    assert (shared.arrays["x"].max(), again.arrays["x"].max()) == (1, 2)


def test_a_full_disk_leaves_nothing_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        shared = share(lambda: "key", made(1))
    assert own(shared).endswith("could be shared on the temporary disk: No space left on device")
    assert shared.arrays["x"][0] == 1
    assert files(folder) == []
    assert share(lambda: "key", made(2)).held is not None


def test_a_full_disk_that_is_full_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert own(share(lambda: "key", made())).endswith("Not a directory")


@pytest.mark.parametrize("kind", ["open to all", "a link"])
def test_a_folder_that_others_may_write_to_is_not_used(kind: str, folder: Path, tmp_path: Path) -> None:
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    assert "is not a folder of this user alone" in own(share(lambda: "key", made()))


@pytest.mark.parametrize("left", [0, 10, 500, 8000])
def test_a_file_that_is_cut_off_is_not_read(left: int, folder: Path) -> None:
    shared = share(lambda: "key", made(1))
    os.truncate(folder / "key", left)
    again = share(lambda: "key", made(2))
    assert own(again).endswith("a damaged file")
    assert again.arrays["x"][0] == 2
    del shared


def test_what_changes_while_arrays_are_made_of_it_is_not_shared(folder: Path) -> None:
    keys = iter(["before", "after"])
    assert own(share(lambda: next(keys), made())) == ""
    assert files(folder) == []


def test_small_arrays_are_not_worth_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arrays, "WORTH_A_FILE", 8001)
    assert own(share(lambda: "key", made())) == ""
    assert files(folder) == []


def test_nobody_waits_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arrays, "PATIENCE_S", 0.1)
    folder.mkdir(mode=0o700)
    with FileLock(folder / "key.lock"):  # whose owner has been stopped
        assert "could not be acquired" in own(share(lambda: "key", made()))


def test_errors_of_the_maker_are_the_callers() -> None:
    def fail() -> Any:
        raise FileNotFoundError("no data")

    for _ in range(2):  # the lock is free again
        with pytest.raises(FileNotFoundError, match="no data"):
            share(lambda: "key", fail)
    assert share(lambda: "key", made()).held is not None
