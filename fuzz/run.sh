#!/usr/bin/env bash
# Tries every target for FUZZ_SECONDS, two at a time, beginning with its corpus. Fails if one finds an
# input that breaks its promise. What is found on the way goes to fuzz/target/found: the corpus in the
# repository holds what was chosen to be kept.

set -euo pipefail
cd "$(dirname "$0")/.."

try() {
    local target=$1 found=fuzz/target/found/$1
    mkdir -p "$found"
    if cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 >"$found.log" 2>&1; then
        printf '%-16s %s\n' "$target" "$(grep -E '^Done [0-9]+ runs' "$found.log")"
    else
        printf '%s\n' "--- $target" "$(tail -n 60 "$found.log")"
        return 1
    fi
}
export -f try

cargo fuzz list | xargs -P 2 -I TARGET bash -euc 'try TARGET'
