#!/usr/bin/env bash
# Screenshot of the top of a page: `deploy/screenshot.sh PAGE.html PICTURE.png`, called by `make screenshot`.
set -euo pipefail
page=$1 picture=$2
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "screenshot: skipped, Chromium not found. Install it (Debian: apt-get install chromium)." >&2; exit 0; }
[ -e "$page" ] || { echo "screenshot: file not found: $page. Run \`make demo\` first." >&2; exit 2; }
mkdir -p "$(dirname "$picture")"
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --user-data-dir="$profile" --hide-scrollbars --window-size=1140,1500 \
  --screenshot="$picture" "file://$(realpath "$page")" >/dev/null 2>&1
echo "$picture"
