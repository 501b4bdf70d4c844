#!/usr/bin/env bash
# Makes this folder ready: `setup.sh runtime` to run the service, `setup.sh development` to test it as well.
#
# System packages come through apt-get, and only those that are missing; Python packages go into .venv, exactly those of
# requirements/*.txt, checked by hash. What is there already is left alone, so a second run takes no time and no network;
# one that was interrupted is made anew by the next.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=${1:-runtime}
venv=.venv
missing=()
python_missing=
as_root=()

say() { echo "condau: $*" >&2; }
stop() { say "$*"; exit 1; }

# need PACKAGE PLACE: note the package as missing unless PLACE, a command or a pattern of absolute paths, is there.
need() {
  if [[ $2 == /* ]]; then
    compgen -G "$2" >/dev/null || missing+=("$1")
  else
    command -v "$2" >/dev/null || missing+=("$1")
  fi
}

need_system_packages() {
  need softhsm2 /usr/lib/softhsm/libsofthsm2.so
  need openssl openssl # with curl: the README's commands
  need curl curl
  need fonts-croscore /usr/share/fonts/truetype/croscore/Tinos-Regular.ttf # visible signatures are written in it
  need ca-certificates /etc/ssl/certs/ca-certificates.crt
  [[ $wanted == development ]] || return 0
  need postgresql '/usr/lib/postgresql/*/bin/initdb'
  need gnutls-bin certtool
  need poppler-utils pdfsig
  need qpdf qpdf
  need xmlsec1 xmlsec1
  need opensc pkcs11-tool
  need p11-kit p11-kit
  need p11-kit-modules '/usr/lib/*/pkcs11/p11-kit-client.so'
  need default-jdk-headless jarsigner
  need libjaxb-java /usr/share/java/jaxb-runtime.jar # veraPDF, out of a Python package, needs it
  need osslsigncode osslsigncode
  need libnss3-tools crlutil
  need strongswan-pki pki
  need libstrongswan-standard-plugins /usr/lib/ipsec/plugins/libstrongswan-openssl.so
  need libbcpkix-java /usr/share/java/bcpkix.jar
  need mupdf-tools mutool # with the next: make interop
  need libitext5-java /usr/share/java/itext5.jar
  need nginx-light /usr/sbin/nginx
  need shellcheck shellcheck
  # a browser for the verification page; Ubuntu has none outside of snap, so there those tests are skipped
  ! grep -qx 'ID=debian' /etc/os-release || need chromium chromium
  need faketime '/usr/lib/*/faketime/libfaketimeMT.so.1' # the clock gate is tested in other times
  need wrk wrk # the load of make bench
}

# Prints the first Python here that is 3.11 or later and can make a virtual environment.
find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Prints the Debian packages that give find_python something: the missing half of a Python that is here, or a newer one.
python_packages() {
  local candidate version
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null); then
      echo "python$version-venv"
      return
    fi
  done
  for version in 3.13 3.12 3.11; do
    if [[ -n $(apt-cache search --names-only "^python$version-venv\$") ]]; then
      echo "python$version-venv"
      return
    fi
  done
  return 1
}

# apt_get ARGUMENTS...: apt-get as root, quietly, waiting its turn if another one is at work.
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >/dev/null; }

install_system_packages() {
  local names="${missing[*]} ${python_missing:+Python 3.11 or later with venv}"
  command -v apt-get >/dev/null || stop "missing: $names; there is no apt-get here, so install them (Debian's names) and try again"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || stop "missing: $names; there is no sudo here, so install them as root (apt-get) and try again"
    as_root=(sudo)
  fi
  say "installing with apt-get: $names"
  apt_get update || say "apt-get update failed; going on with the package lists that are here"
  if [[ -n $python_missing ]]; then
    missing+=("$(python_packages)") || stop "Python 3.11 or later is needed, and apt-get has none for this system"
  fi
  apt_get -y --no-install-recommends install "${missing[@]}"
}

# What .venv must have been made from: this folder (scripts name it), these locks, this project.
fingerprint() { echo "$PWD $(cat "requirements/$1.txt" pyproject.toml client/pyproject.toml | sha256sum)"; }
installed() { [[ -f $venv/$1.stamp && $(<"$venv/$1.stamp") == "$(fingerprint "$1")" ]]; }

# Is there an environment of this folder that runs and that no interrupted installation has left half made?
usable() {
  [[ ! -e $venv/unfinished ]] && "$venv/bin/python" -c '' 2>/dev/null && [[ $(cat "$venv"/*.stamp 2>/dev/null) == "$PWD "* ]]
}

install_python_packages() {
  local pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install)
  if ! usable; then
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/unfinished"
    "$(find_python)" -m venv "$venv"
  fi
  touch "$venv/unfinished"
  say "installing the Python packages of requirements/$wanted.txt into $venv"
  "${pip[@]}" --require-hashes --only-binary :all: --requirement "requirements/$wanted.txt"
  "${pip[@]}" --no-deps --no-index --no-build-isolation --editable . --editable ./client
  if [[ $wanted == development ]]; then fetch_test_data; fi
  fingerprint runtime >"$venv/runtime.stamp"
  if [[ $wanted == development ]]; then fingerprint development >"$venv/development.stamp"; fi
  rm "$venv/unfinished"
}

# The one test suite that no package installs: NIST's PKITS, in the source distribution that the lock file pins by hash.
fetch_test_data() {
  local pinned="$venv/test-data.txt"
  sed -n '/^pyhanko-certvalidator==/,/[^\\]$/p' requirements/development.txt >"$pinned"
  say "fetching the test suite inside the source of pyhanko-certvalidator into $venv/test-data"
  rm -rf "$venv/test-data"
  "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input download --no-deps --no-build-isolation \
    --no-binary :all: --require-hashes --dest "$venv/test-data" --requirement "$pinned"
}

[[ $wanted == runtime || $wanted == development ]] || stop "say runtime or development, not $wanted"
exec 9<. # one at a time in this folder: `make run` and `make test` may be started together
flock 9
need_system_packages
usable || find_python >/dev/null || python_missing=yes
if [[ -n ${missing[*]}$python_missing ]]; then install_system_packages; fi
if ! usable || ! installed "$wanted"; then install_python_packages; fi
