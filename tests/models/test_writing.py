# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Files and folders that are there whole or not at all: modes, links, names, and places where nothing can be written."""

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tellme.models import ModelError
from tellme.models.writing import SafetensorsWriter, check_folder_target, check_target, whole_file, whole_folder

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 255


def refuses(text):
    return pytest.raises(ModelError, match=f"^{re.escape(text)}$")


def write(path, content=b"new"):
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """A umask that is not the usual one."""
    old = os.umask(0o027)
    yield 0o027
    os.umask(old)


def test_a_new_file_has_the_mode_of_open(tmp_path, umask):
    write(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    assert mode(tmp_path / "a") == mode(tmp_path / "b") == 0o640


def test_a_new_folder_has_the_mode_of_mkdir(tmp_path, umask):
    with whole_folder(tmp_path / "a") as scratch:
        (scratch / "x").write_bytes(b"new")
    assert mode(tmp_path / "a") == 0o750 and (tmp_path / "a" / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, umask):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write(path)
    assert mode(path) == 0o604 and path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321) and path.read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False])
def test_the_target_of_a_link_is_replaced(tmp_path, there):
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link", tmp_path / "far" / "target"
    link.symlink_to(Path("far") / "target")
    if there:
        target.write_bytes(b"old")
    write(link)
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["far", "link"] and os.listdir(tmp_path / "far") == ["target"]


def test_names_as_long_as_they_can_be(tmp_path):
    name = "a" * LONGEST
    write(tmp_path / name)
    with whole_folder(tmp_path / ("b" * LONGEST)) as scratch:
        (scratch / "x").write_bytes(b"new")
    assert sorted(os.listdir(tmp_path)) == [name, "b" * LONGEST]
    too_long = tmp_path / f"{name}a"
    with refuses(f"cannot write {too_long}: File name too long"):
        write(too_long)
    with refuses(f"cannot write {too_long}: File name too long"), whole_folder(too_long):
        pass


def test_a_name_that_is_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write(path)
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9"] and path.read_bytes() == b"new"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def lasting(path):
    """What is known of a name, but for the time of the last look at it: following a link is such a look."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize(("make", "text"), [
    (os.mkdir, "it is a folder; give the name of a file"),
    (os.mkfifo, "it is a FIFO, and no regular file"),
    (make_socket, "it is a socket, and no regular file"),
    (lambda path: path.symlink_to("/dev/null"), "it is a character device, and no regular file"),
    (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    (lambda path: path.symlink_to("no/where"), "there is no folder {folder}/no"),
], ids=["folder", "FIFO", "socket", "device", "loop", "dangling"])
def test_what_is_no_regular_file_stays(tmp_path, make, text):
    path = tmp_path / "a"
    make(path)
    before = lasting(path)
    message = f"cannot write {path}: {text.format(folder=tmp_path)}"
    with refuses(message):
        check_target(path)
    with refuses(message):
        write(path)
    assert lasting(path) == before and os.listdir(tmp_path) == ["a"]
    with refuses(f"cannot write {path}: it exists; give the name of a new folder"):
        check_folder_target(path)
    with refuses(f"cannot write {path}: it exists; give the name of a new folder"), whole_folder(path):
        pass
    assert lasting(path) == before and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(("where", "text"), [
    ("no/a", "there is no folder {folder}/no"), ("file/a", "Not a directory"), ("/dev/null/a", "Not a directory"),
])
def test_folders_that_are_none(tmp_path, where, text):
    (tmp_path / "file").write_bytes(b"old")
    path = tmp_path / where
    with refuses(f"cannot write {path}: {text.format(folder=tmp_path)}"):
        write(path)
    folder = text.format(folder=tmp_path) if "no folder" in text else f"there is no folder {path.parent}"
    with refuses(f"cannot write {path}: {folder}"), whole_folder(path):
        pass
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_place_that_takes_no_file(place):
    """Not even root can make a file there."""
    path = Path(place) / "a"
    for call in (check_target, write, check_folder_target):
        with pytest.raises(ModelError, match=(
                f"^cannot write {path}: (No such file or directory|Permission denied|Read-only file system)$")):
            call(path)
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_takes_no_file(tmp_path, monkeypatch, number):
    def refuse(path, *arguments, **named):
        raise OSError(number, os.strerror(number), str(path))

    message = f"cannot write {tmp_path / 'a'}: {os.strerror(number)}"
    monkeypatch.setattr(os, "open", refuse)
    for call in (check_target, check_folder_target, write):
        with refuses(message):
            call(tmp_path / "a")
    with refuses(message), whole_folder(tmp_path / "a"):
        pass
    # It took a file for the check, and takes no more.
    monkeypatch.undo()
    monkeypatch.setattr("tellme.models.writing.check_folder", lambda folder, path: None)
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    with refuses(message):
        write(tmp_path / "a")
    with refuses(message), whole_folder(tmp_path / "a"):
        pass
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError("no model"), ZeroDivisionError])
def test_an_error_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error if isinstance(error, type) else ModelError), whole_file(path) as scratch:
        scratch.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]
    with pytest.raises(error if isinstance(error, type) else ModelError), whole_folder(tmp_path / "b") as scratch:
        (scratch / "x").write_bytes(b"half")
        raise error
    assert os.listdir(tmp_path) == ["a"]


def test_a_failure_to_read_names_what_was_read(tmp_path):
    with refuses(f"cannot write {tmp_path / 'a'}: /no/such: No such file or directory"), whole_file(tmp_path / "a"):
        Path("/no/such").read_bytes()
    assert os.listdir(tmp_path) == []


#: Writes more than a file may have, once as NumPy does, which does not say why it failed.
FULL = """
import atexit
import resource
import sys
from pathlib import Path
import numpy as np
from tellme.models.writing import whole_file, whole_folder
target, how = Path(sys.argv[1]), sys.argv[2]
# Counts of coverage are written behind this.
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
values = np.zeros(1 << 20, np.uint8)
with (whole_folder if "folder" in how else whole_file)(target) as scratch:
    with (scratch / "x" if "folder" in how else scratch).open("wb") as file:
        values.tofile(file) if "tofile" in how else file.write(values.data)
"""


@pytest.mark.parametrize("how", ["file", "file tofile", "folder", "folder tofile"])
def test_a_file_that_gets_too_large(tmp_path, how):
    """Stands for a full disk too: the write comes back short, and the next one tells why."""
    def limit():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    target = tmp_path / "a"
    done = subprocess.run([sys.executable, "-c", FULL, target, how], capture_output=True, text=True, preexec_fn=limit,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "sw"), "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"tellme.models.config.ModelError: cannot write {target}: File too large"
    assert os.listdir(tmp_path) == []


def test_a_short_write_of_a_disk_that_has_room_again(tmp_path):
    """Without a reason of the system the words of NumPy stay."""
    path = tmp_path / "a"
    with refuses(f"cannot write {path}: 8 requested and 0 written"), whole_file(path):
        raise OSError("8 requested and 0 written")
    assert os.listdir(tmp_path) == []


def test_standard_output_and_standard_error_are_no_targets(tmp_path):
    """Text that goes to a file would be lost with the file that is replaced."""
    code = ("import sys; from pathlib import Path; from tellme.models.writing import check_target, ModelError\n"
            "try:\n    check_target(Path(sys.argv[1]))\nexcept ModelError as error:\n    print(error, file=sys.stderr)")
    for stream, name in (("stdout", "standard output"), ("stderr", "standard error")):
        path = tmp_path / stream
        with path.open("wb") as file:
            done = subprocess.run([sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": str(ROOT / "sw")},
                                  **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: file}, check=True)
        said = path.read_text() if stream == "stderr" else done.stderr.decode()
        assert said == f"cannot write {path}: {name} goes to this file; give another name\n"


def test_metadata_is_unicode(tmp_path):
    with (tmp_path / "content").open("wb+") as content, (tmp_path / "target").open("wb") as target:
        out = SafetensorsWriter(content)
        out.add("x", np.zeros(1, np.uint8))
        with refuses("the name 'caf\\udce9' is no Unicode text"):
            out.finish(target, {"name": "caf\udce9"})


def test_tensors_without_elements(tmp_path):
    tensors = {"none": np.zeros((0, 3), np.uint8), "x": np.arange(5, dtype=np.float32)}
    with (tmp_path / "content").open("wb+") as content, (tmp_path / "target").open("wb") as target:
        out = SafetensorsWriter(content)
        for name, tensor in tensors.items():
            out.add(name, tensor)
        out.finish(target, {})
    found = load_file(tmp_path / "target")
    assert found["none"].shape == (0, 3) and np.array_equal(found["x"], tensors["x"])


def test_a_tensor_that_is_not_whole(tmp_path):
    with (tmp_path / "content").open("wb+") as content, (tmp_path / "target").open("wb+") as target:
        out = SafetensorsWriter(content)
        out.begin("x", "uint8", (4,))
        out.put(np.zeros(3, np.uint8))
        with pytest.raises(ValueError, match="^3 bytes were written for tensors of 4$"):
            out.finish(target, {})
        assert target.tell() == 0
