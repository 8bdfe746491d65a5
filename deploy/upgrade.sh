#!/bin/sh
# Brings a mesh of docker-compose.yml to the version in .env, one node at a time, so that nobody is without a node:
#   NATTER_VERSION=0.2.0 in .env, then   sh deploy/upgrade.sh            (BUILD=no: the image is pulled instead)
# The way back is the same with the version before. Each step waits for the one before it and stops where that fails: then
# the nodes not reached yet run on as they were.
set -eu
cd "$(dirname "$0")/.."

if [ "${BUILD:-yes}" = yes ]; then
    docker compose build migrate
else
    docker compose pull migrate
fi

# The schema first. The nodes of the version before run on it: it is one version newer at most.
docker compose run --rm --no-deps migrate

# SIGTERM: the node is not ready, the proxy turns to the others, the node drains, and its clients come back to those.
# --wait returns when the new one is ready, so the next node goes only then.
for node in natter-1 natter-2; do
    docker compose up --detach --no-deps --no-build --wait --wait-timeout 120 "$node"
    # Longer than the proxy needs to see that it is ready: two checks, one every 2 s, and some.
    sleep "${SETTLE:-5}"
done

docker compose exec natter-1 natter doctor
