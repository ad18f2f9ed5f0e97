#!/bin/bash
# One visit to a GPU: correctness, compute-sanitizer, then `tune` (candidate forms) or `bench` (all baselines)
# or `correlation` (similarity of hidden states).
# Usage, from the repository root: bash kernels/gpu_session.sh {tune|bench|correlation} [arguments of the benchmark]
set -u
export PYTHONPATH=kernels PYTHONUNBUFFERED=1
out=${OUT:-.}
what=${1:-tune}
shift || true
failed=0
pids=()
start=$SECONDS
mark() { echo "== $1: $2 after $((SECONDS - start)) s"; }

timeout 300 python3 -m qmetric.bench.check 2>&1 | tee "$out/check.log" | tail -n 25
[ "${PIPESTATUS[0]}" = 0 ] && mark check passed || { mark check FAILED; failed=1; }

# Both tools at once; each sees only our kernels, already compiled by the check.
# Torch's allocator would hide an access past the end of a tensor.
for tool in memcheck racecheck; do
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 150 compute-sanitizer --tool $tool --error-exitcode 7 \
    --kernel-name kernel_substring=streaming_kernel --kernel-name kernel_substring=split_kernel --kernel-name kernel_substring=extend_kernel \
    --kernel-name kernel_substring=columns_kernel --kernel-name kernel_substring=rows_kernel \
    python3 -m qmetric.bench.check --small --seed 1 >"$out/$tool.log" 2>&1 &
  pids[${#pids[@]}]=$!
done
for i in 0 1; do
  wait "${pids[$i]}" && mark sanitizer clean || { mark sanitizer FAILED; failed=1; }
done
tail -n 3 "$out/memcheck.log" "$out/racecheck.log"

if [ "$what" = tune ]; then
  timeout 240 python3 -m qmetric.bench.tune --out "$out" 2>&1 | tee "$out/tune.log"
  timeout 80 python3 -m qmetric.bench --out "$out" --no-compile --quick 2>&1 | tee "$out/bench.log"
  # The same kernel text with the compiler's own layouts: what Gluon's explicit ones are worth.
  QMETRIC_DIALECT=triton timeout 60 python3 -m qmetric.bench --out "$(mktemp -d)" --no-compile \
    --shape 1x3x1x1024 --shape 65536x9x1x1024 2>&1 | tail -n 4
elif [ "$what" = correlation ]; then
  timeout 300 python3 -m qmetric.bench.correlation --out "$out" "$@" 2>&1 | tee "$out/correlation.log"
else
  timeout 420 python3 -m qmetric.bench --out "$out" "$@" 2>&1 | tee "$out/bench.log"
fi
mark all "failed=$failed"
exit $failed
