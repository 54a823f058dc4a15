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
# Every byte but the slashes as %XX: a name may hold "#", "?" or "%".
address=file://$(realpath -z "$page" | tr -d '\0' | od -An -v -tx1 | tr -d '\n' | sed 's| 2f|/|g; s| |%|g')
"$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --user-data-dir="$profile" --hide-scrollbars --window-size=1140,1500 \
  --screenshot="$profile/picture.png" "$address" >/dev/null 2>&1 || true
[ -s "$profile/picture.png" ] || { echo "screenshot: $browser has made no picture of $page." >&2; exit 1; }
mv "$profile/picture.png" "$picture"
echo "$picture"
