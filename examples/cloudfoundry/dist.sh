#!/bin/sh
# Fills dist/ with what `cf push` uploads: the static binary, a Procfile, the catalog file, and the programs that fulfil its
# plans.
#
#   sh examples/cloudfoundry/dist.sh [CATALOG]
#
# CATALOG is a catalog file; without one, the tutorial's is taken. If it names the adapter `exec`, all of its folder comes
# along, where its programs lie: so it needs a folder of its own. Files and folders whose names begin with a dot stay behind,
# as .git and .env, and so does a broker's state. What is taken is printed. Secrets do not belong there: take them from the
# variables of the app (${env:NAME}).
set -eu

catalog=${1:-}
case $catalog in
  '' | /*) ;;
  *) catalog=$(pwd)/$catalog ;;
esac
cd "$(dirname "$0")/../.."
catalog=${catalog:-examples/tutorial.json}
[ -f "$catalog" ] || { echo "dist.sh: there is no catalog file $catalog" >&2; exit 66; }
folder=$(cd "$(dirname "$catalog")" && pwd -P)

with_programs=false
if grep -q '"exec"' "$catalog"; then
  with_programs=true
  for shared in / "$(pwd -P)" "$(cd "${HOME:-/}" 2>/dev/null && pwd -P)"; do
    if [ "$folder" = "$shared" ]; then
      echo "dist.sh: all of the catalog's folder is taken along, and $folder holds more than a catalog and its" \
        'programs: put them into a folder of their own' >&2
      exit 66
    fi
  done
fi

# The cells of Cloud Foundry. `--target` keeps the flag away from build scripts and procedural macros.
target=x86_64-unknown-linux-gnu
RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --features http-adapter,postgres --target "$target"

rm -rf dist
mkdir dist
if $with_programs; then
  # Links stay links: what they lead to outside of the folder is not taken.
  cp -RP "$folder"/* dist/
  find dist -mindepth 1 \( -name '.*' -o -name brokerlet.db -o -name 'brokerlet.db-*' \) -prune -exec rm -rf {} +
  [ "$(basename "$catalog")" = catalog.json ] || rm -f "dist/$(basename "$catalog")"
fi
rm -rf dist/brokerlet dist/catalog.json dist/Procfile
cp "${CARGO_TARGET_DIR:-target}/$target/release/brokerlet" dist/brokerlet
chmod 755 dist/brokerlet
cp "$catalog" dist/catalog.json
echo 'web: ./brokerlet' > dist/Procfile
echo 'dist/ holds:'
find dist ! -type d | LC_ALL=C sort | sed 's/^/  /'

# The variables of the app are not set here, so nothing is said of what is missing because of them.
if ! dist/brokerlet check --without-secrets dist/catalog.json; then
  echo 'dist.sh: the broker would not start with this catalog' >&2
  exit 78
fi
echo 'dist/ is ready for: cf push --no-start'
