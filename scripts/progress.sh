# shellcheck shell=bash
# For scripts that people wait for: what is being done, for how long, and what went wrong.

# Prints what failed and what to do about it, and ends with the exit code of an operator's error.
fail() {
  echo "error: $1" >&2
  [[ -z ${2:-} ]] || echo "  hint: $2" >&2
  exit 3
}

# step WHAT COMMAND...: runs COMMAND with its output put aside, says every few seconds that it still
# runs, and shows the end of the output if it fails.
step() {
  local what=$1 log pid waited=0 status=0
  shift
  log=$(mktemp)
  echo "  $what ..." >&2
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  trap 'kill "$pid" 2>/dev/null || true; rm -f "$log"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    waited=$((waited + 1))
    ((waited % 40)) || echo "  $what ... $((waited / 5)) s" >&2
  done
  wait "$pid" || status=$?
  trap - INT TERM
  if [[ $status -ne 0 ]]; then
    # Some tools say what is wrong first, others last.
    if (($(wc -l <"$log") <= 80)); then
      cat "$log" >&2
    else
      head -n 30 "$log" >&2
      echo "  [...]" >&2
      tail -n 50 "$log" >&2
    fi
    rm -f "$log"
    fail "$what: the command ended with status $status" "Its output is above; the command was: $*"
  fi
  rm -f "$log"
  echo "  $what: done in $((waited / 5)) s" >&2
}
