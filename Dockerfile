# Both stages stand on one base: the environment is copied whole and must find its interpreter.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Dependencies come before the code, so that an edit of the code leaves their layer as it was.
# Wheels only: an image without a compiler should fail here and at once, not in a build of C.
COPY requirements.txt requirements-dev.txt ./
RUN python -m venv --without-pip /opt/remora \
    && pip --python /opt/remora/bin/python install \
        --no-compile --only-binary :all: --require-hashes -r requirements.txt
# For the build backend alone, but so its hashes are held as well; it stays in this stage.
RUN pip install --no-compile --only-binary :all: --require-hashes -r requirements-dev.txt

COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /src/dist . \
    && pip --python /opt/remora/bin/python install --no-compile --no-deps --no-index /src/dist/*.whl
# Bytecode that is never checked against its source: layers may change a file's time.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/remora/lib


FROM ${PYTHON_IMAGE}
# The slim image ships its standard library uncompiled, and a read-only root can keep no bytecode:
# without this, every start and every health check would compile it again.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x site-packages \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/remora
COPY --from=builder /opt/remora /opt/remora
ENV PATH=/opt/remora/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # The body of a held request goes back to the system with it, instead of staying in the heap.
    MALLOC_MMAP_THRESHOLD_=65536

# What was learned (footprints, load times) and the journal; the only place that is written.
VOLUME /var/lib/remora
WORKDIR /var/lib/remora
# A number, so that Kubernetes can verify runAsNonRoot.
USER 10001:10001

EXPOSE 9400 9410 9411
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9400, timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["remora"]
CMD ["run"]

# Last, for they differ in every build.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="remora" \
      org.opencontainers.image.description="Keeps the right models resident on NVIDIA Triton within a device-memory budget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
