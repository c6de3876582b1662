# Sets $python: the project's own, else the first one on the PATH that is new enough. Expects $here.
python="$here/.venv/bin/python"
if [ ! -x "$python" ]; then
    python=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$name")
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "Remit needs Python 3.11 or newer, and there is none on the PATH. Install it, then start again:" >&2
    echo "  Debian 12, Ubuntu 24.04 or newer:  sudo apt-get install python3 python3-venv" >&2
    echo "  macOS:                             brew install python@3.13" >&2
    exit 1
fi
