#!/usr/bin/env bash
# Runs a command of this project with everything it needs in place:
#
#   bash scripts/with-tools.sh bun scripts/build.ts
#
# In order: tools of the system, node_modules, BoringSSL. What is present costs nothing (well under a
# second in all); what is missing is installed where that is possible without asking (apt as root, npm,
# cargo), else the exact command is printed and the exit code is 3. Two runs at once wait for each other.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=scripts/progress.sh
source scripts/progress.sh

# `rust-version` of native/Cargo.toml: the language and the standard library that the code uses.
RUST_LEAST=1.95
# What npm's own resolver and the `engines` of the tools need.
NODE_LEAST=20

main() {
  mkdir -p .cache
  exec 9>.cache/lock
  if ! flock -n 9; then
    echo "waiting for another run in this folder" >&2
    flock 9
  fi

  check_system_tools
  case "$*" in *scripts/test.ts*) check_test_tools ;; esac
  check_rust
  check_node
  install_node_modules
  bash scripts/build-boringssl.sh

  exec 9>&-
  export PATH="$root/node_modules/.bin:$PATH"
  exec "$@"
}

check_system_tools() {
  local missing=()
  have git || missing+=(git)
  have cc || missing+=(gcc libc6-dev)
  have c++ || missing+=(g++)
  have cmake || missing+=(cmake)
  have make || missing+=(make)
  have_libclang || missing+=("$(libclang_packages)")
  [[ ${#missing[@]} -eq 0 ]] && return

  # Unquoted on purpose: one element may name two packages.
  # shellcheck disable=SC2206
  missing=(${missing[@]})
  if ! have apt-get; then
    fail "missing: ${missing[*]} (Debian's names)" "Install them with the package manager of this system."
  fi
  if [[ $(id -u) -ne 0 ]]; then
    fail "missing: ${missing[*]}" "Run: sudo apt-get install --yes --no-install-recommends ${missing[*]}"
  fi
  export DEBIAN_FRONTEND=noninteractive
  step "reading the package lists" apt-get update
  step "installing ${missing[*]}" apt-get install --yes --no-install-recommends "${missing[@]}"
}

# What some tests need beside the product; those whose tools are missing say so and are skipped.
check_test_tools() {
  local missing=()
  have curl || missing+=(curl)
  have dig || missing+=(bind9-dnsutils)
  have dnsmasq || missing+=(dnsmasq-base)
  have ip || missing+=(iproute2)
  have nft || missing+=(nftables)
  have ping || missing+=(iputils-ping)
  have tcpdump || missing+=(tcpdump)
  if [[ ${#missing[@]} -eq 0 ]] || ! have apt-get; then return; fi
  if [[ $(id -u) -ne 0 ]]; then
    echo "some tests are skipped without: ${missing[*]}" >&2
    return
  fi
  export DEBIAN_FRONTEND=noninteractive
  step "reading the package lists" apt-get update
  step "installing ${missing[*]}" apt-get install --yes --no-install-recommends "${missing[@]}"
}

check_rust() {
  local install="Install Rust $RUST_LEAST or later from https://rustup.rs, or run: rustup update stable"
  have cargo || fail "missing: cargo (Rust $RUST_LEAST or later)" "$install"
  local version
  version=$(cargo --version | cut -d' ' -f2)
  at_least "$RUST_LEAST" "$version" || fail "cargo is $version, the least version is $RUST_LEAST" "$install"
}

check_node() {
  local install="Install Node.js $NODE_LEAST or later with npm, see https://nodejs.org/en/download"
  have node || fail "missing: node" "$install"
  have npm || fail "missing: npm" "$install"
  local version
  version=$(node --version)
  at_least "$NODE_LEAST" "${version#v}" || fail "node is $version, the least version is $NODE_LEAST" "$install"
}

install_node_modules() {
  # npm writes this file last, so an interrupted installation is done again.
  if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
    step "installing node_modules" npm ci --no-audit --no-fund
    touch node_modules/.package-lock.json
  fi
  # A client that withholds install scripts leaves a stub in the place of the runtime.
  if ! node_modules/.bin/bun --version >/dev/null 2>&1; then
    step "unpacking bun" node node_modules/bun/install.js
  fi
}

# bindgen opens libclang at build time and needs clang's own headers (stddef.h) beside it.
have_libclang() {
  if [[ -n ${LIBCLANG_PATH:-} ]]; then return 0; fi
  compgen -G "/usr/lib/llvm-*/lib/libclang*.so*" >/dev/null &&
    compgen -G "/usr/lib/llvm-*/lib/clang/*/include/stddef.h" >/dev/null && return 0
  have clang && compgen -G "/usr/lib*/libclang.so*" >/dev/null
}

libclang_packages() {
  # The two that are needed of Debian 12; elsewhere the meta package, which brings a few more.
  if grep -qs 'VERSION_CODENAME=bookworm' /etc/os-release; then
    echo "libclang1-14 libclang-common-14-dev"
  else
    echo "libclang-dev"
  fi
}

have() { command -v "$1" >/dev/null 2>&1; }

at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

main "$@"
