# shellcheck shell=bash
# What deploy/dev, deploy/test and deploy/lock share: Python packages and front-end files, installed only
# when their locks changed. Needs Python 3.11, as root or not, from any folder, with or without a home.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*"; }
die() { printf 'fairlead: %s\n' "$*" >&2; exit 1; }

step() { # WHAT COMMAND…: a dot a second while it runs; what it says goes to the log
  local what=$1 dots; shift
  printf '%s ' "$what"
  (while sleep 1; do printf .; done) &
  dots=$!
  if "$@" >>"$log" 2>&1; then kill $dots; wait $dots 2>/dev/null || say ' done'; return; fi
  kill $dots; wait $dots 2>/dev/null || say
  return 1
}

apt_install() {
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y)
  [ "$(id -u)" = 0 ] || get=(sudo -n "${get[@]}")
  step "Installing $1" "${get[@]}" install "$1" || { "${get[@]}" update && "${get[@]}" install "$1"; } >>"$log" 2>&1 ||
    die "$1 is needed and could not be installed: run 'apt-get install $1' as root (log: $log)"
}

make_venv() {
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
  local python= name
  for name in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$name && break
  done
  [ "$python" ] || die "Python 3.11 or newer is needed and was not found: install it, or set PYTHON"
  "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  step "Making .venv with $("$python" --version)" "$python" -m venv --clear "$venv" ||
    die "$venv could not be made (log: $log)"
}

stamp() { printf '%s%s\n' "$(sha256sum "$1" | cut -d' ' -f1)" "${2:+ $2}"; } # LOCK [WHAT]
stamped() { local kept=$1; shift; grep -qsx "$(stamp "$@")" "$kept"; }

install_python() { # LOCK: adds what it lists; what another lock has added stays
  stamped "$venv/.installed" "$root/$1" && return
  [ -x "$venv/bin/uv" ] || step "Installing uv" \
    "$venv/bin/python" -m pip install --require-hashes -r "$root/deploy/bootstrap.lock" ||
    die "uv could not be installed; is there a network? (log: $log)"
  step "Installing $1" \
    "$venv/bin/uv" pip install --python "$venv/bin/python" --require-hashes -r "$root/$1" ||
    die "the packages of $1 could not be installed; is there a network? (log: $log)"
  stamp "$root/$1" >>"$venv/.installed"
}

install_front_end() { # WHAT: prod for the files that pages need, dev for the tests' packages too
  local kept=$root/node_modules/.installed
  stamped "$kept" "$root/package-lock.json" "$1" || stamped "$kept" "$root/package-lock.json" dev && return
  local which=--omit=dev
  [ "$1" = dev ] && which=--include=dev
  step "Fetching the front-end files" "$venv/bin/npm" ci "$which" ||
    die "the front-end files could not be fetched; is there a network? (log: $log)"
  stamp "$root/package-lock.json" "$1" >"$kept"
}

set_up() { # LOCK [dev]
  cd "$root" || die "$root cannot be entered"
  log=${VAR_DIR:-$root/var}/log/setup.log
  mkdir -p -m 700 "${log%/*}" && : >>"$log" || die "$log cannot be written: set VAR_DIR to another folder"
  export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never NODE_USE_SYSTEM_CA=1
  export PIP_DISABLE_PIP_VERSION_CHECK=1 npm_config_cache=$venv/.npm npm_config_update_notifier=false
  [ -w "${HOME:-/nonexistent}" ] || export UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
  exec 9<"$root/deploy" && flock 9 # one set-up at a time
  make_venv
  install_python "$1"
  install_front_end "${2:-prod}"
  exec 9<&-
}
