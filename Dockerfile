# syntax=docker/dockerfile:1
#
#   docker build --target api        .     serves HTTP: no torch, no onnxruntime
#   docker build --target worker     .     runs the model on a CPU
#   docker build --target worker-gpu .     runs the model on an NVIDIA GPU (CUDA 13, cuDNN 9)
#   docker build --target export     .     trains, evaluates, PyTorch -> ONNX
#
# docs/containers.md says how to run them, how to build behind a package mirror, and how large they are.
# Every image is the base, then what all of them import, then its own extra, then our own code: a node that runs api
# and worker holds the first two once, and a change of our code replaces 16 MB.
#
# Any Debian-like image with python3 >= 3.11 and its venv module. For a build that repeats exactly, pass a digest:
# --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS base
# rasterio's wheel takes libexpat from the system, and slim images may lack it.
RUN python3 -c "import ctypes; ctypes.CDLL('libexpat.so.1')" 2>/dev/null \
 || { apt-get update \
   && apt-get install --yes --no-install-recommends libexpat1 \
   && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt; }


# pip, hatchling and the virtual environment with what every image imports. Only files under /out leave the builder,
# so neither pip nor a cache nor a credential of a package index is in any layer of an image.
FROM base AS builder
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# One list of requirements for each extra, so that dependencies are layers of their own and outlive a change of code.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt hatchling \
 && python3 -c "import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']; \
lists = {'core': project['dependencies'], **project['optional-dependencies']}; \
[pathlib.Path(f'/opt/build/{name}.txt').write_text('\n'.join(lists[name])) for name in lists]"
# `add LAYER ARGUMENTS OF pip install…` installs into /opt/landcover, drops the packages' own tests and C++ headers,
# compiles what is new, and leaves what is new under /out/LAYER.
# Bytecode with the hash of its source stays valid whatever a builder or a registry does to the times of files; a file
# that does not compile is for a newer Python (torch ships some).
RUN printf '%s\n' '#!/bin/sh' 'set -eu' \
    'layer=/out/$1; shift' \
    'stamp=$(mktemp)' \
    '[ -d /opt/landcover ] || python3 -m venv --without-pip /opt/landcover' \
    'site=$(echo /opt/landcover/lib/python3*/site-packages)' \
    '/opt/build/bin/pip --python /opt/landcover/bin/python --disable-pip-version-check --no-cache-dir install \' \
    '    --no-compile --constraint /src/constraints.txt "$@"' \
    'find "$site" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +' \
    'rm -rf "$site"/torch/include' \
    'find "$site" -name "*.py" -newer "$stamp" \' \
    '  | /opt/landcover/bin/python -m compileall -qq --invalidation-mode unchecked-hash -i - || true' \
    'mkdir -p "$layer"' \
    'cd / && find opt/landcover -newer "$stamp" ! -type d -print0 \' \
    '  | tar --create --null --no-recursion --files-from - | tar --extract --directory "$layer"' \
    > /opt/build/bin/add \
 && chmod 0755 /opt/build/bin/add
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/build/bin/add core --requirement /opt/build/core.txt


FROM builder AS api-packages
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/build/bin/add api --requirement /opt/build/api.txt --requirement /opt/build/products.txt \
      --requirement /opt/build/postgres.txt --requirement /opt/build/otel.txt

FROM builder AS worker-packages
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/build/bin/add worker --requirement /opt/build/worker.txt --requirement /opt/build/openvino.txt \
      --requirement /opt/build/otel.txt

FROM builder AS gpu-packages
COPY constraints-gpu.txt /src/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/build/bin/add gpu --constraint /src/constraints-gpu.txt --requirement /opt/build/gpu.txt \
      --requirement /opt/build/otel.txt

FROM builder AS export-packages
RUN --mount=type=secret,id=pip,target=/etc/pip.conf /opt/build/bin/add export --requirement /opt/build/export.txt

FROM builder AS code
COPY README.md LICENSE ./
COPY services services
COPY worker worker
COPY export export
RUN /opt/build/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir /opt/build/wheels . \
 && /opt/build/bin/add code --no-deps --no-index /opt/build/wheels/*.whl


FROM base AS core
COPY --from=builder /out/core/ /
# A root filesystem that is read-only needs one writable place, a tmpfs at /tmp; nothing of value is kept there.
# ONNX Runtime reports its use to its maker over HTTPS, and keeps an identifier in HOME, unless it is told not to.
ENV PATH=/opt/landcover/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    LANDCOVER_SCENES=/data/scenes
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["landcover"]
LABEL org.opencontainers.image.title="landcover-tiles" \
      org.opencontainers.image.description="Land cover from aerial imagery, on demand, as map tiles and statistics." \
      org.opencontainers.image.licenses="Apache-2.0"


FROM core AS worker
COPY --from=worker-packages /out/worker/ /
COPY --from=code /out/code/ /
# Importing it here fails a build that lacks a library, instead of a start.
RUN python -c "import landcover_worker.service"
ENV LANDCOVER_WORKER_DEVICE=cpu \
    LANDCOVER_WORKER_METRICS_PORT=9100
EXPOSE 9100
# Every model is loaded and warm, and the worker takes tasks. Kubernetes asks /healthz beside it (charts/landcover):
# that one alone says whether a process is to be started anew.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['LANDCOVER_WORKER_METRICS_PORT']), timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="landcover-tiles worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["worker"]


FROM core AS worker-gpu
COPY --from=gpu-packages /out/gpu/ /
COPY --from=code /out/code/ /
RUN python -c "import landcover_worker.service"
# CUDA and cuDNN come from wheels, the driver from the host (NVIDIA Container Toolkit). `cuda`, not `auto`: a node
# whose driver is too old says so and does not quietly work at a CPU's pace.
ENV LANDCOVER_WORKER_DEVICE=cuda \
    LANDCOVER_WORKER_METRICS_PORT=9100 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['LANDCOVER_WORKER_METRICS_PORT']), timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="landcover-tiles worker, CUDA" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["worker"]


FROM core AS export
COPY --from=export-packages /out/export/ /
COPY --from=code /out/code/ /
RUN python -c "import landcover_export.onnx_export, landcover_export.train"
HEALTHCHECK NONE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="landcover-tiles export" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["--help"]


# Last, so that a build without --target makes the image that most people want.
FROM core AS api
COPY --from=api-packages /out/api/ /
COPY --from=code /out/code/ /
RUN python -c "import landcover_api.app"
EXPOSE 8000
# Of the process alone: /readyz, which asks for broker and cache too, is what a load balancer wants.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="landcover-tiles api" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
