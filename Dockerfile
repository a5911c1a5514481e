FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /venv && /venv/bin/pip install --no-deps --require-hashes --only-binary=:all: -r requirements.lock \
    && /venv/bin/pip check

FROM python:3.13-slim-trixie
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/venv/bin:$PATH \
    PLUMBLINE__SERVING__MODELS=/models \
    PLUMBLINE__STORE__URL=sqlite:////data/plumbline.db \
    PLUMBLINE__STORE__SPOOL_PATH=/data/spool.db
RUN useradd --system --uid 10001 --home-dir /data --create-home plumbline
COPY --from=build /venv /venv
WORKDIR /srv/plumbline
COPY config.yaml ./
COPY docs/playbook.md ./docs/
COPY app ./app
RUN python -m compileall -q app
USER 10001
VOLUME /data
EXPOSE 8000
# Beyond loopback the service asks for keys: set PLUMBLINE__SERVER__HOST=0.0.0.0 together with auth.keys.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PLUMBLINE__SERVER__PORT', '8000')}/health/ready\", timeout=2)"]
CMD ["python", "-m", "app", "serve"]
