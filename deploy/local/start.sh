# Becomes the command $kind of the checkout $here. Nothing but file times is looked at while nothing has changed.
stamp_is_newest() {
    [ -x "$here/.venv/bin/python" ] && [ -r "$1" ] && read -r place <"$1" && [ "$place" = "$here" ] || return 1
    for input in "$here"/deploy/locks/*.txt "$here"/libs/*/pyproject.toml "$here"/services/*/pyproject.toml \
        "$here"/clients/*/pyproject.toml "$here"/deploy/*/pyproject.toml; do
        [ "$1" -nt "$input" ] || [ ! -e "$input" ] || return 1
    done
}

# Without cached bytecode each start would compile a thousand modules anew.
unset PYTHONDONTWRITEBYTECODE
case $kind in
    remit) module=remit_cli ;;
    dev) module=remit_local.dev ;;
esac
if stamp_is_newest "$here/.venv/remit-$kind.stamp" || stamp_is_newest "$here/.venv/remit-dev.stamp"; then
    exec "$here/.venv/bin/python" -m "$module" "$@"
fi

python=
for name in "$here/.venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$name")
        break
    fi
done
if [ -z "$python" ]; then
    echo "Remit needs Python 3.11 or newer, and there is none on the PATH. Install it, then start again:" >&2
    echo "  Debian 12, Ubuntu 24.04 or newer:  sudo apt-get install python3 python3-venv" >&2
    echo "  macOS:                             brew install python@3.13" >&2
    exit 1
fi
exec "$python" -I "$here/deploy/local/bootstrap.py" "$kind" "$module" "$@"
