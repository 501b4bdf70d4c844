#!/usr/bin/env bash
# Removes a development instance with its keys: `fresh.sh FOLDER`. Any other instance is left alone.
set -euo pipefail

home=${1:?the folder of the instance}
if [[ ! -e $home ]]; then
  echo "condau: there is no $home, so there is nothing to remove" >&2
elif [[ -z $(ls -A "$home") ]] || grep -qsx 'development = true' "$home/condau.toml"; then
  rm -rf "$home"
  echo "condau: removed $home" >&2
else
  echo "condau: $home is not a development instance (its condau.toml does not say 'development = true'); not removed" >&2
  exit 1
fi
