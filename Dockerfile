# syntax=docker/dockerfile:1
#
# Two images from one file:
#   docker build --target serve -t hone .          serves bundles; no torch, no transformers
#   docker build --target train -t hone-train .    prepares and trains as well
#
#   docker run -p 8000:8000 -v ./store:/var/lib/hone/store:ro hone
#
# For torch without CUDA in the train image, give its index:
#   --build-arg PIP_EXTRA_INDEX_URL=<the CPU wheel index of PyTorch>

FROM python:3.11.13-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HONE_STORE=/var/lib/hone/store \
    HONE_STATE_DIR=/var/lib/hone/state
RUN useradd --create-home --uid 10001 hone \
    && mkdir -p /var/lib/hone/store /var/lib/hone/state \
    && chown -R hone:hone /var/lib/hone
WORKDIR /opt/hone
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hone ./hone

FROM base AS serve
RUN pip install --constraint constraints.txt .
USER 10001
WORKDIR /var/lib/hone
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
# The exec form: the service is process 1 and gets SIGTERM itself.
ENTRYPOINT ["hone"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS train
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --constraint constraints.txt '.[train,minilm]'
USER 10001
WORKDIR /var/lib/hone
ENTRYPOINT ["hone"]
CMD ["--help"]
