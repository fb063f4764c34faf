# docker build --tag asl_min . && docker run --rm --volume asl_runs:/app/runs asl_min
# torch comes from pip's index; to get another build of it, name an index: --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.11-slim

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*

# Files in a mounted ./runs belong to this user; give your own id if it is another.
ARG USER_ID=1000
RUN useradd --create-home --uid "${USER_ID}" asl \
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
