#!/bin/sh
# The browser tests drive a Chromium that is already on the machine; on Debian as root it can be installed here.
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing Chromium for the browser tests, once…"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-color-emoji >/dev/null
fi
command -v chromium >/dev/null 2>&1 || echo "No Chromium found: the browser tests will be skipped." >&2
exit 0
