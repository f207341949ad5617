#!/usr/bin/env bash
# The board's half of docs/jetson.md in one go: environment, install, doctor, build, verify, predict.
# Copy this one file to the Jetson. It changes nothing outside the environment and the bundle, and never
# calls sudo: what only root can do it names, and stops.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: jetson.sh [options] BUNDLE [IMAGE]

Builds and verifies a TensorRT engine of a bundle on this Jetson, then predicts one image with it.
BUNDLE is a folder that glpn-export made and you copied here.

  --precision A,B    precisions to build, an engine each: fp16 (default), fp32, int8; may be repeated
  --size HxW         size to build for (default 480x640)
  --batch N[:M]      batch sizes (default 1)
  --venv FOLDER      environment to make or use (default ./glpn-venv)
  --package SPEC     what pip installs (default glpn-deploy[jetson]; a wheel works: ./x.whl[jetson])
  --dry-run          say what would be done, on any machine, and what this one lacks; run nothing
  --help             this text

Exit status: 0 done, 1 a check or a step failed, 2 wrong use.
HELP
}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s%s.\n' "$1" "${2:+; $2}" >&2
    exit "${3:-1}"
}
check() { # a check of this machine; a dry run goes on
    if [ "$dry_run" = no ]; then
        fail "$@"
    fi
    say "note: here it would stop: $1${2:+; $2}"
}
need() {
    if [ "$#" -lt 2 ] || [ -z "$2" ]; then
        fail "$1 needs a value" "jetson.sh --help lists what it takes" 2
    fi
}
step() {
    say "+ $*"
    if [ "$dry_run" = no ]; then
        "$@"
    fi
}

precision=''
size=480x640
batch=1
venv=glpn-venv
package='glpn-deploy[jetson]'
dry_run=no
bundle=''
image=''
while [ "$#" -gt 0 ]; do
    case "$1" in
        --precision) need "$@"; precision=${precision:+$precision,}$2; shift ;;
        --size | --shapes) need "$@"; size=$2; shift ;;
        --batch) need "$@"; batch=$2; shift ;;
        --venv) need "$@"; venv=$2; shift ;;
        --package) need "$@"; package=$2; shift ;;
        --dry-run) dry_run=yes ;;
        --help | -h) usage; exit 0 ;;
        -*) fail "no such option: $1" "jetson.sh --help lists what it takes" 2 ;;
        *)
            if [ -z "$bundle" ]; then
                bundle=$1
            elif [ -z "$image" ]; then
                image=$1
            else
                fail "got unexpected extra argument ($1)" "jetson.sh --help lists what it takes" 2
            fi
            ;;
    esac
    shift
done
[ -n "$bundle" ] || fail "missing argument BUNDLE" "jetson.sh --help lists what it takes" 2
precision=${precision:-fp16}

# Checks, before anything is changed. JETSON_ROOT stands in for / in tests.
root=${JETSON_ROOT:-}
[ -f "$bundle/manifest.json" ] ||
    check "$bundle is no bundle (it has no manifest.json)" "make it with glpn-export, and copy the whole folder" 2
if [ -n "$image" ] && [ ! -f "$image" ]; then
    check "there is no image $image" "" 2
fi
release="$root/etc/nv_tegra_release"
if [ -f "$release" ]; then
    major=$(sed -n 's/^# R\([0-9][0-9]*\) (release).*/\1/p' "$release" | head -n 1)
    if [ -z "$major" ]; then
        check "the release cannot be read from $release" "see head -n 1 $release"
    elif [ "$major" -lt 36 ]; then
        check "Jetson Linux R$major is JetPack 5 or older, whose TensorRT cannot read this network" "flash JetPack 6.0 or later"
    else
        say "Jetson Linux R$major"
    fi
else
    check "this is no Jetson (there is no $release)" "elsewhere install the package's extra tensorrt"
fi
if ! command -v python3 >/dev/null; then
    check "there is no python3" "sudo apt install python3 python3-venv"
else
    say "$(python3 --version)"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        check "python3 cannot make environments" "sudo apt install python3-venv"
    python3 -c 'import tensorrt' 2>/dev/null ||
        check "the system's python3 has no tensorrt" "sudo apt update && sudo apt install python3-libnvinfer"
fi

if [ "$dry_run" = no ] && [ "$(id -u)" = 0 ]; then
    say "note: running as root makes an environment that only root can change"
fi
if [ ! -x "$venv/bin/python" ]; then
    step python3 -m venv --system-site-packages "$venv"
fi
step "$venv/bin/python" -m pip install "$package"
step "$venv/bin/glpn-doctor"
step "$venv/bin/glpn-build" "$bundle" --precision "$precision" --size "$size" --batch "$batch"
step "$venv/bin/glpn-verify" "$bundle"
if [ -n "$image" ]; then
    step "$venv/bin/glpn-predict" "$bundle" "$image" --backend tensorrt --precision "${precision%%,*}"
fi
if [ "$dry_run" = no ]; then
    say "done: $bundle/engines"
fi
