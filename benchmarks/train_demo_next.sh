#!/bin/sh
# Trains what is to follow the demo checkpoint: twice its parameters (stored in float16 they take 4 MB too), twice
# its samples, and a loss that is less about outliers. Not finished yet; nothing in the package comes from it.
#
#   benchmarks/train_demo_next.sh [OUT]      OUT is runs/demo-next where nothing is said
#
# Two hours on two CPU cores that compute in bf16, after rendering 32,000 rooms (8 minutes, 1.5 GB in OUT/cache).
# Stopped or killed, the same command goes on where it was, also with another number of THREADS.
set -eu
out=${1:-runs/demo-next}
here=$(dirname "$0")

# glibc gives large blocks back to the system after every operator; keeping them saves a fifth of the time.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000

exec glpn-train rooms "$out/run" --cache "$out/cache" --rooms 32000 --size 96x128 --config "$here/demo_next.json" \
    --epochs 20 --batch 24 --lr 1.6e-3 --schedule cosine --optimizer adamw --weight-decay 0.01 --clip 1 \
    --loss log-l1 --ema 0.999 --cutdepth 0 --colour 0.2 --precision bf16 --workers 0 --threads "${THREADS:-2}" \
    --save-every 400 --seed 0
