# The daemon alone, for whoever brings their own PostgreSQL: docker build -t tallyd .
FROM node:20-bookworm-slim AS page
WORKDIR /build/page
COPY page/package.json page/package-lock.json page/.npmrc ./
RUN npm ci
COPY page/tsconfig.json page/build.mjs ./
COPY page/src ./src
RUN npm run build

FROM rust:1-bookworm AS book
WORKDIR /build
COPY scripts/need-mdbook ./scripts/
RUN scripts/need-mdbook
COPY . .
RUN scripts/book

FROM rust:1-bookworm AS daemon
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs config.toml ./
COPY protocol ./protocol
COPY crates ./crates
COPY clients/rust ./clients/rust
COPY fuzz/readers ./fuzz/readers
COPY benches ./benches
COPY migrations ./migrations
COPY grafana ./grafana
COPY src ./src
COPY tests/prices/spellings.toml ./tests/prices/
COPY tests/snapshots/openapi.snap ./tests/snapshots/
COPY --from=page /build/page/dist ./page/dist
COPY --from=book /build/target/book ./target/book
# What `tallyd --version` tells: docker build --build-arg BUILD_COMMIT="$(git rev-parse --short=12 HEAD)" …
ARG BUILD_COMMIT=
RUN cargo build --profile dist --locked --bin tallyd && strip target/dist/tallyd

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tallyd --create-home tallyd \
    && install -d -o tallyd -g tallyd /run/tallyd
COPY --from=daemon /build/target/dist/tallyd /usr/local/bin/tallyd
USER tallyd
# The write-ahead log is here: give it a volume, or what PostgreSQL does not have yet goes with the container.
ENV TALLYD_DATA_DIR=/var/lib/tallyd TALLYD_SOCKET=/run/tallyd/tallyd.sock TALLYD_HTTP_LISTEN=0.0.0.0:7420
VOLUME /var/lib/tallyd
EXPOSE 7420 7421
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["tallyd", "status"]
ENTRYPOINT ["tallyd"]
CMD ["serve"]
