"""`probtune report --serve`: one page, at an address that only this machine reaches."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..terminal import Terminal

__all__ = ["page_server", "serve"]

_LOOPBACK = "127.0.0.1"


def page_server(html: str, port: int) -> ThreadingHTTPServer:
    """Return a server of the page on the loopback; port 0 takes a free one.

    It answers requests for `/` that name this machine: a page elsewhere, whose name was made to
    point here, learns nothing.

    Raises:
        UsageError: the port is taken, or is none.
    """
    content = html.encode("utf-8")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if self.path != "/" or host not in (_LOOPBACK, "localhost"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of requests."""

    try:
        return ThreadingHTTPServer((_LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--port {port} cannot be used: {error}; choose another, or 0 for a free one."
        ) from None


def serve(html: str, port: int, terminal: Terminal) -> None:
    """Serve the page until Ctrl-C."""
    with page_server(html, port) as server:
        terminal.show(f"open    http://{_LOOPBACK}:{server.server_address[1]}/  (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            terminal.show("closed")
