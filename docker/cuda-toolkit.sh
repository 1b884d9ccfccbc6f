#!/usr/bin/env bash
# NVIDIA's compiler and libraries from the Python package index, as one tree that
# the feature `cuda` builds with. No root, no GPU; 1.2 GB.
#
#     docker/cuda-toolkit.sh FOLDER      makes FOLDER, then says what to export
#
# CUDA_VERSION is 13.0 unless it is set. It must not be newer than the driver of
# the machine where Cairn will run: the driver compiles what the build made.
set -euo pipefail

folder=$(realpath -m "${1:?give a folder, for example ~/cuda}")
version=${CUDA_VERSION:-13.0}
python=${PYTHON:-python3}

"$python" -m venv "$folder/wheels"
"$folder/wheels/bin/pip" install --quiet \
    "nvidia-cuda-nvcc==$version.*" "nvidia-cuda-crt==$version.*" "nvidia-nvvm==$version.*" \
    "nvidia-cuda-runtime==$version.*" "nvidia-cuda-cccl==$version.*" "nvidia-cuda-nvrtc==$version.*" \
    "nvidia-cublas==$version.*" nvidia-curand

tree=$(echo "$folder"/wheels/lib/python*/site-packages/nvidia/cu"${version%%.*}")
ln -sfn "$tree" "$folder/cuda"

# A linker looks for names without a version, in `lib64` too.
for library in "$tree"/lib/lib*.so.*; do
    name=$(basename "$library")
    ln -sf "$name" "$tree/lib/${name%%.so.*}.so"
done
ln -sfn lib "$tree/lib64"

# The driver's library comes with the driver. To link, one suffices that has the
# names of the functions; the real one is found when the program starts.
mkdir -p "$tree/lib/stubs"
grep -ohE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?(_ptsz|_ptds)?\b' "$tree"/include/cuda*.h | sort -u |
    sed 's/.*/void &(void) {}/' |
    ${CC:-cc} -shared -fPIC -w -x c -Wl,-soname,libcuda.so.1 -o "$tree/lib/stubs/libcuda.so" -

cat <<SAY
export CUDA_HOME=$folder/cuda
export PATH=\$CUDA_HOME/bin:\$PATH
export CUDA_COMPUTE_CAP=80
SAY
