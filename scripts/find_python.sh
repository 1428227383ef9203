#!/bin/sh
# Prints the newest Python from 3.13 down to 3.11 that can make a virtual environment.
# Each is run, not only looked up: a version manager's shim may be on PATH for a version that is not switched on.
probe='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c "$probe" 2>/dev/null; then
        command -v "$python"
        exit 0
    fi
done

echo "notifier needs Python 3.11 or newer with the venv module, and found none on PATH." >&2
echo "On Debian or Ubuntu: apt-get install python3 python3-venv. Or name one: make PYTHON=/path/to/python3 ..." >&2
exit 1
