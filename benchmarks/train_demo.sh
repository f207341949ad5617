#!/bin/sh
# Trains the demo checkpoint that ships in glpn_deploy/demo_checkpoint, from nothing but seeds.
#
#   benchmarks/train_demo.sh [OUT]      OUT is runs/demo where nothing is said
#
# About two hours on one CPU core, after rendering 24,000 rooms (7 minutes on two cores, 1.5 GB in
# OUT/cache). Stopped or killed, the same command goes on where it was.
set -eu
out=${1:-runs/demo}

# glibc gives large blocks back to the system after every operator; keeping them saves a fifth of the time.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000

# One thread: images this small gain a third from a second core, and two runs on one core each gain all.
exec glpn-train rooms "$out/run" --cache "$out/cache" --rooms 24000 --size 96x128 --config demo \
    --epochs 13 --batch 12 --lr 1.2e-3 --schedule cosine --optimizer adamw --weight-decay 0.01 --clip 1 \
    --ema 0.999 --cutdepth 0 --colour 0.2 --precision fp32 --workers 0 --threads 1 --save-every 400 --seed 0
