#!/usr/bin/env bash
# Installs THICK into a virtual environment. The Makefile, .ci/run and the Dockerfile all install through here.
#
#   scripts/install.sh [--extras LIST] [--venv DIR] [--device cpu|cuda] [--system auto|require|no] [--no-editable]
#
#   --extras LIST   extras of pyproject.toml, separated by commas, or `none` for the thin client (default: all)
#   --venv DIR      virtual environment, created when it is not there (default: .venv)
#   --device KIND   which build of torch, where an extra brings it: cpu (default) or cuda
#   --system MODE   Debian packages: auto installs what is missing when root can, and otherwise says what to
#                   type (default); require fails when something stays missing; no does not look
#   --no-editable   install a copy instead of a link to this checkout
#
# Variables: PYTHON, the interpreter to use (3.11 or newer); TORCH_INDEX, the address of an index of torch wheels
# for hardware that the package index pip is configured with does not serve.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=all venv=.venv device=cpu system=auto editable=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --extras) extras=$2; shift 2 ;;
        --venv) venv=$2; shift 2 ;;
        --device) device=$2; shift 2 ;;
        --system) system=$2; shift 2 ;;
        --no-editable) editable=no; shift ;;
        -h|--help) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "install.sh: unknown argument '$1'; --help lists them" >&2; exit 2 ;;
    esac
done
wants() { [[ ",$extras," == *",$1,"* || ",$extras," == *",all,"* ]]; }
case "$device" in cpu|cuda) ;; *) echo "install.sh: --device is cpu or cuda, not '$device'" >&2; exit 2 ;; esac
if [ "$device" = cuda ] && ! { wants train || wants service; }; then
    echo "install.sh: --device cuda needs torch, which --extras $extras does not bring: add service or train" >&2
    exit 2
fi
case "$system" in auto|require|no) ;; *) echo "install.sh: --system is auto, require or no, not '$system'" >&2; exit 2 ;; esac

say() { printf '\n== %s\n' "$*"; }
as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_updated=no
apt_install() {
    if [ "$apt_updated" = no ]; then apt-get -qq update && apt_updated=yes; fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# -- Debian packages: GL for pixels of MuJoCo, a compiler for the kernels, Redis and a browser for tests -----
missing_packages() {
    local libraries
    libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
    if wants envs || wants train; then
        [[ "$libraries" == *libEGL.so.1* ]] || echo libegl1
        [[ "$libraries" == *libGL.so.1* ]] || echo libgl1
        [[ "$libraries" == *libOSMesa.so* ]] || echo libosmesa6
    fi
    if wants serve || wants service || wants train; then
        command -v "${CC:-cc}" >/dev/null || printf '%s\n' gcc libc6-dev
    fi
    if wants dev; then
        command -v redis-server >/dev/null || echo redis-server
        command -v chromium >/dev/null || echo chromium
    fi
}

if [ "$system" != no ]; then
    mapfile -t packages < <(missing_packages)
    if [ ${#packages[@]} -gt 0 ] && as_root; then
        say "Debian packages: ${packages[*]}"
        apt_install "${packages[@]}" || echo "install.sh: apt-get failed" >&2
        mapfile -t packages < <(missing_packages)
    fi
    if [ ${#packages[@]} -gt 0 ]; then
        echo "install.sh: missing Debian packages; as root: apt-get install ${packages[*]}" >&2
        echo "            (libegl1 libgl1 libosmesa6 draw dm_control's pixels; redis-server and chromium serve the tests)" >&2
        [ "$system" = require ] && exit 1
    fi
fi

# -- Virtual environment -----------------------------------------------------------------------------------------
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=${PYTHON:-}
    for candidate in python3.11 python3.12 python3; do
        if [ -z "$python" ] && command -v "$candidate" >/dev/null && new_enough "$candidate"; then python=$candidate; fi
    done
    if [ -z "$python" ] || ! new_enough "$python"; then
        echo "install.sh: no Python 3.11 or newer found; set PYTHON to one" >&2
        exit 1
    fi
    say "Virtual environment $venv ($("$python" --version))"
    if ! "$python" -c 'import ensurepip' 2>/dev/null && [ "$system" != no ] && as_root; then
        # Debian keeps the venv module of its own Python in a package of its own.
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    "$python" -m venv "$venv"
fi

# -- Python packages, at the versions that were tested -------------------------------------------------------------
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip=("$venv/bin/python" -m pip install)
[ -n "${CI:-}" ] && pip+=(--quiet --progress-bar off)
pinned() { sed -n "s/^$1==//p" constraints.txt; }

if wants train || wants service; then
    # First and by its exact version: an open range makes resolvers pick builds with gigabytes of CUDA.
    # `==` prefers a local build such as +cpu, `===` takes the plain one, which is the CUDA build on the public index.
    torch="torch==$(pinned torch)"
    [ "$device" = cuda ] && [ -z "${TORCH_INDEX:-}" ] && torch="torch===$(pinned torch)"
    say "$torch ($device)"
    if [ -n "${TORCH_INDEX:-}" ]; then
        PIP_EXTRA_INDEX_URL="$TORCH_INDEX ${PIP_EXTRA_INDEX_URL:-}" "${pip[@]}" "$torch"
    else
        "${pip[@]}" "$torch"
    fi
fi

# Another distribution brings a folder `thick` too: this one's earlier name, or the stranger's who owns it on the index.
"${pip[@]}" uninstall --yes thick >/dev/null 2>&1 || true
rm -rf thick.egg-info

say "thick-planner with extras: $extras"
target=.
[ "$extras" != none ] && target=".[$extras]"
[ "$editable" = yes ] && target="--editable=$target"
"${pip[@]}" --constraint constraints.txt "$target"

if wants dev; then
    # The robot client's metadata still asks for numpy 1; its code runs on numpy 2, and the tests use the real one.
    "${pip[@]}" --no-deps "openpi-client==$(pinned openpi-client)"
fi

if [ "$device" = cpu ] && { wants train || wants service; }; then
    "$venv/bin/python" - <<'PY'
import torch

if torch.version.cuda:
    print(
        f"note: torch {torch.__version__} is a CUDA build; it runs on the CPU as well. For the much smaller CPU build "
        "set TORCH_INDEX to PyTorch's index of CPU wheels and install into a fresh environment."
    )
PY
fi
say "Installed: $("$venv/bin/thick" --version) in $venv"
