#!/usr/bin/env bash
# Installs the Debian packages named as arguments that this machine lacks; says nothing if it has them all.
#
# What counts is whether the thing works, not who installed it: a redis-server built from source will do.

set -euo pipefail

# Whether what the package brings is there already.
is_present() {
    case $1 in
        build-essential) command -v cc && command -v make ;;
        cmake | curl | haproxy | nginx | npm | openssl | redis-server | wrk) command -v "$1" || [[ -x /usr/sbin/$1 ]] ;;
        golang-go) command -v go ;;
        nodejs) command -v node ;;
        # Debian splits `ensurepip` off, so `import venv` alone proves nothing.
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        default-jre-headless) command -v java ;;
        kotlin) command -v kotlinc ;;
        node-typescript) command -v tsc ;;
        *) [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1") == installed ]] ;;
    esac >/dev/null 2>&1
}

missing() {
    local package
    for package in "$@"; do
        is_present "$package" || printf '%s\n' "$package"
    done
}

# Runs a command as root: directly, or by sudo, which may ask for a password only where somebody can type one.
as_root() {
    if ((EUID == 0)); then
        env "$@"
    elif [[ -t 0 ]]; then
        sudo env "$@"
    else
        sudo --non-interactive env "$@"
    fi
}

fail() {
    printf 'imgate needs: %s\n%s\n' "$1" "$2" >&2
    exit 1
}

mapfile -t wanted < <(missing "$@")
((${#wanted[@]} > 0)) || exit 0

command -v apt-get >/dev/null || fail "${wanted[*]}" "there is no apt-get here: install them by hand"
((EUID == 0)) || command -v sudo >/dev/null || fail "${wanted[*]}" "run as root: apt-get install ${wanted[*]}"

printf 'installing: %s\n' "${wanted[*]}"
as_root DEBIAN_FRONTEND=noninteractive apt-get update -qq
as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${wanted[@]}" >/dev/null

mapfile -t wanted < <(missing "${wanted[@]}")
((${#wanted[@]} == 0)) || fail "${wanted[*]}" "they were installed, yet the first ones in PATH do not work"
