#!/bin/sh
# Runs a command with PyTorch and NumPy at their best on AMD, for fair peers:
#   sh bench/peers/tuned.sh python bench/peers/torch_train.py a
# MKL asks who made the CPU and takes its AVX-512 code from Intel's only: its question is answered for it. glibc is told to back memory by huge pages and to give
# nothing back to the system between steps. Linux with a C compiler; on Intel the first part changes nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n' > "$folder/answer.c"
cc -shared -fPIC -O2 -o "$folder/answer.so" "$folder/answer.c"
LD_PRELOAD="$folder/answer.so" \
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456 \
  "$@"
