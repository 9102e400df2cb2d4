#!/bin/sh
# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Checks what make needs before it downloads anything; names all that is missing with one apt line, exit code 2.
# Plain sh: the first thing missing may be Python.

PYTHON=${PYTHON:-python3}
packages=""
problems=""

lacks() { # what, Debian package
    problems="$problems
  - $1"
    [ -z "$2" ] || packages="$packages $2"
}

if ! command -v "$PYTHON" >/dev/null 2>&1; then
    lacks "Python 3.11 or newer ($PYTHON is not there)" "python3 python3-venv libpython3-dev"
elif ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lacks "Python 3.11 or newer ($PYTHON is $("$PYTHON" -V 2>&1)); name another one with make PYTHON=python3.12" "python3.11 python3.11-venv libpython3.11-dev"
else
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || lacks "Python's venv module" "python3-venv"
    # cocotb embeds the interpreter into the simulator.
    "$PYTHON" - <<'EOF' || lacks "a shared libpython" "libpython3-dev"
import ctypes.util, os, sys, sysconfig
v = sysconfig.get_config_var
names = [os.path.join(v(d) or "", v("INSTSONAME") or "") for d in ("LIBDIR", "LIBPL")]
short = "python%d.%d" % sys.version_info[:2]
sys.exit(not (v("Py_ENABLE_SHARED") or ctypes.util.find_library(short) or any(
    n.endswith((".so", ".dylib", ".so.1.0")) and os.path.isfile(n) for n in names)))
EOF
fi
for tool in "g++ g++" "make make" "perl perl" "git git"; do
    set -- $tool
    command -v "$1" >/dev/null 2>&1 || lacks "$1" "$2"
done
free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ ! -d .venv ] && [ "${free_kb:-0}" -lt 4194304 ]; then
    lacks "4 GB of free disk here (there are $((free_kb / 1024)) MB)" ""
fi
[ -z "$problems" ] && exit 0
{
    echo "This machine lacks:$problems"
    [ -z "$packages" ] || { echo; echo "On Debian or Ubuntu:"; echo "  sudo apt-get install -y$packages"; }
} >&2
exit 2
