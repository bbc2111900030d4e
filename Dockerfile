# Two stages: everything needed to build, then the C library and one file.
#
#   docker build --tag ztna .
#   docker run --rm ztna version
#
# Mount configuration and certificates read-only, and name them by path:
#   docker run --volume /etc/ztna:/etc/ztna:ro --publish 4433:4433/udp ztna relay --config /etc/ztna/relay.yaml
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        cmake git g++ libclang1-14 libclang-common-14-dev make nodejs npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# Changes rarely and takes minutes: a layer of its own.
COPY scripts/build-boringssl.sh scripts/progress.sh scripts/
COPY native/Cargo.toml native/Cargo.lock native/
COPY native/crates native/crates
RUN bash scripts/build-boringssl.sh
COPY . .
RUN npm ci --no-audit --no-fund \
    && (node_modules/.bin/bun --version || node node_modules/bun/install.js) \
    && node_modules/.bin/bun scripts/build.ts

# The C library and an unprivileged user; no shell, no package manager.
FROM gcr.io/distroless/base-debian12:nonroot
COPY --from=build /source/dist/ztna /usr/bin/ztna
EXPOSE 4433/udp 4434/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/ztna"]
