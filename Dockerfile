# The trainer and the retrieval server, on a CPU or on GPUs; no model weights inside. torch comes from pip's index with
# the CUDA libraries that it needs, so that the base only has to be a Debian or Ubuntu with Python 3.11 or newer; to get
# another build of torch: --build-arg PIP_EXTRA_INDEX_URL=...
#   docker build --tag asl_min .
#   docker build --tag asl_min:cuda --build-arg BASE_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04 .
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl make \
    && (python3 -c "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))" \
        || apt-get install --yes --no-install-recommends python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/*

# Files in a mounted ./runs belong to this user; give your own id if it is another. Ubuntu's images have a user of id
# 1000 already.
ARG USER_ID=1000
RUN useradd --create-home --non-unique --uid "${USER_ID}" asl \
    && install --directory --owner=asl /app /app/runs
USER ${USER_ID}
WORKDIR /app

# The packages are a layer of their own, rebuilt only when the lock (or Makefile) changes.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1
COPY --chown=asl requirements.lock Makefile ./
RUN make .venv/.locked
COPY --chown=asl . .
RUN make setup

VOLUME ["/app/runs"]
CMD ["make", "reproduce"]
