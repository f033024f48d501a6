#!/bin/sh
# Fetches Swagger UI from npm and puts the files of the page /docs beside this script: `make swagger-ui`.
# The large ones are compressed, as browsers get them; `gzip -n` writes no time, so the same version gives the same bytes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
tar -xzf "$(npm pack --silent swagger-ui-dist@5)"
cd package
for name in swagger-ui-bundle.js swagger-ui.css; do gzip -9 -n -c "$name" > "$here/$name.gz"; done
cp favicon-32x32.png LICENSE NOTICE swagger-ui-bundle.js.LICENSE.txt "$here"
sed -n 's/.*"version": "\(.*\)".*/\1/p' package.json > "$here/VERSION"
