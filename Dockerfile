# syntax=docker/dockerfile:1
# Two stages: the compiler stays behind. Both bases are of one Debian release, so the C library fits.
FROM rust:1.95.0-slim-bookworm AS build
# A C compiler and make: for the allocator and the cryptography.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /natter
COPY Cargo.toml Cargo.lock ./
COPY schema schema
COPY nats nats
COPY clients clients
COPY src src
# Cargo.toml names the test target, so a file must stand there; the tests themselves are not needed.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/natter/target \
    mkdir -p tests/it && echo 'fn main() {}' > tests/it/main.rs \
    && cargo build --release --locked --bin natter \
    && cp target/release/natter /usr/local/bin/natter

# The C library and a user without rights.
FROM debian:12.12-slim
RUN useradd --system --uid 65532 --no-create-home --shell /usr/sbin/nologin nonroot
COPY --from=build /usr/local/bin/natter /usr/local/bin/natter
# The authorities that sign the certificates of identity providers (auth.jwks_url).
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER nonroot
EXPOSE 8080
# There is no curl here: the program asks itself.
HEALTHCHECK --interval=5s --timeout=6s --start-period=10s CMD ["/usr/local/bin/natter", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/natter"]
CMD ["serve"]
