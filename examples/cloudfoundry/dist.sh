#!/bin/sh
# Fills dist/ with what `cf push` uploads: the static binary, a Procfile and the catalog file.
#
#   sh examples/cloudfoundry/dist.sh [CATALOG]
#
# CATALOG is a catalog file; without one, the tutorial's is taken.
set -eu

catalog=${1:-}
case $catalog in
  '' | /*) ;;
  *) catalog=$(pwd)/$catalog ;;
esac
cd "$(dirname "$0")/../.."
catalog=${catalog:-examples/tutorial.json}
[ -f "$catalog" ] || { echo "dist.sh: there is no catalog file $catalog" >&2; exit 66; }

# The cells of Cloud Foundry. `--target` keeps the flag away from build scripts and procedural macros.
target=x86_64-unknown-linux-gnu
RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$target"

rm -rf dist
mkdir dist
cp "${CARGO_TARGET_DIR:-target}/$target/release/brokerlet" dist/brokerlet
chmod 755 dist/brokerlet
cp "$catalog" dist/catalog.json
echo 'web: ./brokerlet' > dist/Procfile

# The variables of the app are not set here, so what is missing because of them is no reason to stop.
dist/brokerlet check dist/catalog.json ||
  echo 'dist.sh: the broker will not start with these errors; variables that only the app has count as not set here' >&2
echo 'dist/ is ready for: cf push --no-start'
