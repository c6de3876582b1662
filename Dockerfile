# One image for every part of Remit; what a container is, its command says: `python -m identity all`.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /srv/remit
COPY deploy/locks deploy/locks
RUN python -m venv .venv \
    && .venv/bin/pip install --require-hashes -r deploy/locks/uv.txt \
    && .venv/bin/python -m uv pip install --python .venv/bin/python --require-hashes -r deploy/locks/product.txt \
    && .venv/bin/python -m uv pip install --python .venv/bin/python --no-deps --require-hashes -r deploy/locks/embedded.txt
COPY libs libs
COPY services services
COPY clients clients
COPY deploy/local deploy/local
# Editable, as in a checkout: each service's migrations stand beside its source.
RUN for package in libs/* services/* clients/cli deploy/local; do set -- "$@" -e "$package"; done \
    && .venv/bin/python -m uv pip install --python .venv/bin/python --no-deps "$@"

FROM python:3.11-slim-bookworm
# Secrets come in volumes that take over the owner of these folders.
RUN groupadd --gid 10001 remit && useradd --uid 10001 --gid remit --no-create-home --home-dir /var/lib/remit remit \
    && install -d -o remit -g remit -m 0700 /var/lib/remit /var/lib/remit/objects \
    && for name in identity billing policy gateway execution audit model postgres rabbitmq; do \
        install -d -o remit -g remit -m 0755 /run/remit "/run/remit/$name" || exit 1; done
COPY --from=build /srv/remit /srv/remit
COPY samples /srv/remit/samples
COPY docs /srv/remit/docs
ENV PATH=/srv/remit/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/remit
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["remit_cli", "--help"]
