"""Exits with 0 if the service on this machine is alive: asks ``/health/live`` at the port ``THICK_PORT``.

For a container's health check; needs the standard library alone.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Return 0 if the service answers, 1 (with the reason on stderr) otherwise."""
    secure = bool(os.environ.get("THICK_TLS_CERT"))
    address = (
        f"{'https' if secure else 'http'}://127.0.0.1:{os.environ.get('THICK_PORT', '8000')}/health/live"
    )
    context = ssl.create_default_context()
    if secure:
        # The certificate names the host that clients see, not 127.0.0.1.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Without proxies: containers are often started with HTTP_PROXY, and the service is on this side of it.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(address, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        print(f"{address}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
