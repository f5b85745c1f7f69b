# The service, without torch. Build it with `docker build -t thick .`, then
#   docker run -p 8000:8000 -p 8001:8001 -e THICK_API_KEYS=a-long-secret -v "$PWD/checkpoints:/models:ro" thick
# On a GPU, with torch: `docker build --build-arg DEVICE=cuda --build-arg EXTRAS=service,tracing -t thick:cuda .`, and
# run it with `--gpus all -e THICK_DEVICE=cuda`.
# Keys are needed because the container listens beyond loopback; docs/installation.md says more.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE} AS build
# What to install: `serve` is all that a CPU needs, `service` is the same with torch.
ARG EXTRAS=serve,tracing
# Which torch, where it is installed: cpu or cuda, and where to look for its wheels besides the configured package index.
ARG DEVICE=cpu
ARG TORCH_INDEX=""
# For the native runtime's library; the image that runs needs no compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY scripts/install.sh scripts/install.sh
COPY native native
COPY thick thick
COPY service service
COPY clients clients
RUN CI=true TORCH_INDEX="${TORCH_INDEX}" \
    scripts/install.sh --venv /opt/thick --extras "${EXTRAS}" --device "${DEVICE}" --system no --no-editable

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/thick /opt/thick
COPY scripts/healthcheck.py /opt/thick/healthcheck.py
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin thick \
    && install -d -o thick -g thick /models /var/lib/thick
USER thick
WORKDIR /var/lib/thick
ENV PATH="/opt/thick/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    THICK_MODELS=/models \
    THICK_STORE=sqlite:////var/lib/thick/sessions.sqlite \
    THICK_HOST=0.0.0.0 \
    THICK_PORT=8000 \
    THICK_GRPC_PORT=8001
# The model repository is mounted read-only; sessions are kept under /var/lib/thick.
VOLUME ["/models", "/var/lib/thick"]
EXPOSE 8000 8001
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/thick/healthcheck.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["thick", "serve"]
