#!/bin/sh
# Trains the demo checkpoint that ships in glpn_deploy/demo_checkpoint, from nothing but seeds.
#
#   benchmarks/train_demo.sh [OUT]      OUT is runs/demo where nothing is said; the checkpoint is OUT/demo
#
# Two hours on two CPU cores that compute in bf16, after rendering 32,000 rooms (8 minutes, 1.5 GB in OUT/cache).
# Stopped or killed, the same command goes on where it was, also with another number of THREADS.
set -eu
out=${1:-runs/demo}

# glibc gives large blocks back to the system after every operator; keeping them saves a fifth of the time.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=1000000000

glpn-train rooms "$out/run" --cache "$out/cache" --rooms 32000 --size 96x128 --config demo \
    --epochs 20 --batch 24 --lr 1.6e-3 --schedule cosine --optimizer adamw --weight-decay 0.01 --clip 1 \
    --loss log-l1 --ema 0.999 --cutdepth 0 --colour 0.2 --precision bf16 --workers 0 --threads "${THREADS:-2}" \
    --save-every 400 --seed 0

# Twice the parameters fit into 4 MB as float16; config.json says that they are read as float32.
python - "$out/run/final" "$out/demo" <<'EOF'
import sys
from pathlib import Path

from glpn_deploy import GLPNForDepthEstimation

GLPNForDepthEstimation.from_pretrained(sys.argv[1]).half().save_pretrained(sys.argv[2])
config = Path(sys.argv[2], "config.json")
config.write_text(config.read_text().replace('"float16"', '"float32"'))
EOF
