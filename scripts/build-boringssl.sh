#!/usr/bin/env bash
# Compiles BoringSSL once for every profile, test and lint of native/, into .cache/boringssl.
#
# Cargo would compile it again for each profile and target folder (two minutes each). What is there
# is kept until the version of boring-sys or the compiler changes; a build goes to a folder of its
# own and is renamed at its end, so what is there is always whole.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/progress.sh
source scripts/progress.sh

installed=.cache/boringssl
# Beside the folder and not inside: cargo watches the folder.
stamp=.cache/boringssl.stamp

main() {
  local wanted
  wanted="boring-sys $(boring_sys_version), $(c++ --version | head -n1)"
  if is_whole && [[ ! -e $stamp ]]; then echo "$wanted" >"$stamp"; fi
  if is_whole && [[ $(<"$stamp") == "$wanted" ]]; then return; fi

  local scratch
  scratch=$(mktemp -d .cache/boringssl-build.XXXXXX)
  # shellcheck disable=SC2064 # the folder of this run
  trap "rm -rf '$scratch'" EXIT
  mkdir "$scratch/installed"

  # Assertions carry their file's name, which is none of the users' business.
  local unnamed="-ffile-prefix-map=$PWD=ztna"
  # From the root and not from native/, whose cargo configuration points to the folder to be made.
  step "compiling BoringSSL, once (about two minutes)" \
    env -u BORING_BSSL_PATH CFLAGS="${CFLAGS:-} $unnamed" CXXFLAGS="${CXXFLAGS:-} $unnamed" BORING_BSSL_INSTALL_DIR="$PWD/$scratch/installed" \
    cargo check --release --locked --manifest-path native/Cargo.toml --package boring-sys \
    --target-dir "$scratch/target"

  rm -rf "$installed" "$stamp"
  mv "$scratch/installed" "$installed"
  echo "$wanted" >"$stamp"
}

is_whole() {
  [[ -s $installed/lib/libcrypto.a && -s $installed/lib/libssl.a && -d $installed/include/openssl ]]
}

boring_sys_version() {
  awk '/^name = "boring-sys"$/ { getline; gsub(/[^0-9.]/, ""); print; exit }' native/Cargo.lock
}

main
