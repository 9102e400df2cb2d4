# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Files that are there whole or not at all, and safetensors files written tensor by tensor."""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tellme.models.config import ModelError

__all__ = ["ITEM_BYTES", "SafetensorsWriter", "check_folder_target", "check_target", "kind", "whole_file", "whole_folder"]

_DTYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "float16": "F16", "float32": "F32"}

#: Bytes of an element, by the format's names of types.
ITEM_BYTES = {name: np.dtype(dtype).itemsize for dtype, name in _DTYPES.items()}


#: Bytes that are written to find out why fewer were written than asked for.
PROBE_BYTES = 1 << 20


def check_target(path: Path) -> None:
    """Refuse a path at which :func:`whole_file` cannot write a file, before any work is done; a ModelError says why."""
    try:
        found = kind(path)
        if found == "a folder":
            raise ModelError(f"cannot write {path}: it is a folder; give the name of a file")
        if found not in ("", "a file"):
            raise ModelError(f"cannot write {path}: it is {found}, and no regular file")
        for stream, name in ((1, "standard output"), (2, "standard error")):
            if found and same_file(path, stream):
                raise ModelError(f"cannot write {path}: {name} goes to this file; give another name")
        check_folder(real(path).parent, path)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def check_folder_target(folder: Path) -> None:
    """The same for :func:`whole_folder`, which makes a new folder."""
    if os.path.lexists(folder):
        raise ModelError(f"cannot write {folder}: it exists; give the name of a new folder")
    try:
        check_folder(folder.parent, folder)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error.strerror}") from error


def kind(path: Path) -> str:
    """What lies at a path, symbolic links followed: "a folder", "a FIFO"...; nothing if there is nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    for known, name in ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"),
                        (stat.S_ISCHR, "a character device"), (stat.S_ISBLK, "a block device"), (stat.S_ISSOCK, "a socket")):
        if known(mode):
            return name
    return "no file"


def real(path: Path) -> Path:
    """Where a path leads: the target of a symbolic link, which may not be there yet."""
    return Path(os.path.realpath(path))


def same_file(path: Path, stream: int) -> bool:
    """Whether an open stream of this process is the file at a path."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(stream))
    return False


def check_folder(folder: Path, path: Path) -> None:
    """Refuse a folder in which ``path`` cannot be made.  This is tried, because the modes do not tell what root may do."""
    if not folder.is_dir():
        raise ModelError(f"cannot write {path}: there is no folder {folder}")
    scratch = scratch_beside(folder / path.name)
    new_file(scratch)
    scratch.unlink()


def new_file(path: Path) -> None:
    """Make an empty file, with the mode that ``open`` would give it, where there is nothing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def scratch_beside(path: Path) -> Path:
    """An unused name in the folder of ``path``.  The name is short, because the name of ``path`` may be as long as possible."""
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when the block ends without an error; on an error it is gone.

    The file gets the mode that ``open`` would give it, or the mode and owner of the file that it replaces.  If ``path`` is a
    symbolic link, its target is replaced.  Anything there that is no regular file is refused.  Failures to write are ModelErrors.
    """
    check_target(path)
    target = real(path)
    scratch = scratch_beside(target)
    try:
        new_file(scratch)
        yield scratch
        take_over_mode(scratch, target)
        scratch.replace(target)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {why(error, scratch)}") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place when the block ends without an error; on an error it is gone.

    What is there already, a folder or anything else, is refused.  Failures to write are ModelErrors.
    """
    check_folder_target(folder)
    scratch = scratch_beside(folder)
    try:
        scratch.mkdir()
        yield scratch
        scratch.rename(folder)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {why(error, scratch)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def take_over_mode(scratch: Path, target: Path) -> None:
    """Give a file the owner and the mode of the file that it replaces, if there is one."""
    with suppress(FileNotFoundError):
        old = target.stat()
        with suppress(PermissionError):
            os.chown(scratch, old.st_uid, old.st_gid)
        scratch.chmod(stat.S_IMODE(old.st_mode))


def why(error: OSError, scratch: Path) -> str:
    """What went wrong, in the system's words, and with which file if that is another than ``scratch``.

    NumPy's ``tofile`` reports that a write fell short and does not report why.  One more write to the full disk finds out.
    """
    if error.errno is None:
        return short_of_space(scratch) or str(error)
    text = error.strerror or str(error)
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    ours = [name for name in names if Path(name).is_relative_to(scratch) or Path(name) == scratch.parent]
    return text if ours or not names else f"{names[0]}: {text}"


def short_of_space(scratch: Path) -> str:
    """Why no more can be written after the end of a file, or of a file in a folder; nothing if it can."""
    probe = scratch / "probe" if scratch.is_dir() else scratch
    try:
        with probe.open("ab", buffering=0) as file:
            left = PROBE_BYTES
            while left:
                left -= file.write(bytes(left)) or left
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


class SafetensorsWriter:
    """Tensors in the order in which they come; the header, which lies before them, is made last.

    ``content`` is an empty scratch file for the tensors; :meth:`finish` writes the whole.
    """

    def __init__(self, content: BinaryIO):
        self._content = content
        self._header: dict[str, object] = {}
        self._at = 0

    def begin(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """A tensor whose content the next calls of :meth:`put` give."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [self._at, self._at + size]}
        self._at += size

    def put(self, part: np.ndarray) -> None:
        """Some more of the tensor that was begun last."""
        self._content.write(np.ascontiguousarray(part).data)

    def add(self, name: str, tensor: np.ndarray) -> None:
        """A tensor at once."""
        self.begin(name, str(tensor.dtype), tensor.shape)
        if tensor.size:
            self.put(tensor)

    def finish(self, target: BinaryIO, metadata: dict[str, str]) -> None:
        """Header and tensors into ``target``; metadata that is no Unicode text is a ModelError."""
        for key, value in metadata.items():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ModelError(f"the {key} {value!r} is no Unicode text") from error
        if self._content.tell() != self._at:
            raise ValueError(f"{self._content.tell()} bytes were written for tensors of {self._at}")
        header = json.dumps({"__metadata__": metadata, **self._header}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        target.write(len(header).to_bytes(8, "little") + header)
        self._content.seek(0)
        shutil.copyfileobj(self._content, target, 1 << 20)
