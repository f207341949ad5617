#!/bin/sh
# Vertical CutDepth on against off: a network half as wide as the demo, from scratch, same seeds, 2,000 steps.
#
#   benchmarks/train_cutdepth.sh [OUT]      OUT is runs/cutdepth where nothing is said
#
# About eight minutes a run on one CPU core, after rendering 24,000 rooms into OUT/cache (a link to the
# cache of train_demo.sh saves that). Both are judged on the 200 validation rooms by the last line of log.csv.
set -eu
out=${1:-runs/cutdepth}
here=$(dirname "$0")

export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000
for share in 0 0.25; do
    glpn-train rooms "$out/share-$share" --cache "$out/cache" --rooms 24000 --size 96x128 \
        --config "$here/cutdepth.json" \
        --epochs 1 --batch 12 --lr 1.2e-3 --schedule cosine --optimizer adamw --weight-decay 0.01 --clip 1 \
        --ema 0.99 --cutdepth "$share" --colour 0.2 --precision fp32 --workers 0 --threads 1 --seed 1
    tail -n 1 "$out/share-$share/log.csv"
done
