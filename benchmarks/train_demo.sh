#!/bin/sh
# Trains the demo checkpoint that ships in glpn_deploy/demo_checkpoint, from nothing but seeds.
#
#   benchmarks/train_demo.sh [OUT]      OUT is runs/demo where nothing is said
#
# Three stages: at half size, where a step costs a quarter, and from there twice at 192x256. About 40
# minutes on two CPU cores that compute in bf16, after 10 minutes of rendering (5 GB in OUT/cache).
# Stopped or killed, the same command goes on where it was.
set -eu
out=${1:-runs/demo}

# glibc gives large blocks back to the system after every operator; keeping them saves a fifth of the time.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000
# Waiting threads give way soon, so that another program on the machine costs its share and not more.
export GOMP_SPINCOUNT=20000

stage() {
    folder=$1
    shift
    glpn-train rooms "$out/$folder" --cache "$out/cache" --rooms 20000 --batch 12 \
        --schedule cosine --optimizer adamw --weight-decay 0.01 --clip 1 --ema 0.999 \
        --cutdepth 0 --colour 0.2 --precision bf16 --workers 0 --threads 2 --save-every 400 "$@"
}

stage small --shrink 2 --config demo --lr 7e-4 --epochs 4 --seed 0
stage full --start "$out/small/final" --lr 5e-4 --epochs 1 --seed 1
stage last --start "$out/full/final" --lr 5e-4 --epochs 1 --seed 2
