"""What stands in a page as it is sent, before its own script, which takes a second or two to start, has run:
the Library's first thumbnails, of which the grid takes the place when it is there (`library.js`), and a few
lines against gradio's clocks."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.library_html import ADDRESS
from ui.library_page import CSS

# what the theme calls these colours, light and dark
LIGHT = (
    "--body-text-color:#1e293b;--body-text-color-subdued:#64748b;--background-fill-secondary:#f1f5f9;"
    "--block-background-fill:#fff;--input-background-fill:#fff;--border-color-primary:#e2e8f0;"
    "--primary-600:#0d9488;--early:#f8fafc"
)
DARK = (
    "--body-text-color:#f1f5f9;--body-text-color-subdued:#94a3b8;--background-fill-secondary:#0f172a;"
    "--block-background-fill:#1e293b;--input-background-fill:#334155;--border-color-primary:#334155;"
    "--primary-600:#0d9488;--early:#020617"
)
STYLE = (
    "#early{position:fixed;inset:0;z-index:1000;overflow:auto;padding:16px;background:var(--early);"
    "color:var(--body-text-color);font-family:system-ui,-apple-system,'Segoe UI',sans-serif;" + LIGHT + "}"
    "#early>b{color:var(--primary-600);font-size:1.2rem}"
    "@media (prefers-color-scheme:dark){#early{" + DARK + "}}"
)
MARK = b"<gradio-app"
HEAD = b"<head>"
# gradio counts the seconds of its "Loading" at every frame for as long as the page is open, on a core that
# the run needs; what only counts time does so four times a second
CALM = b"""<script>(() => {
  const frame = window.requestAnimationFrame.bind(window), clock = /performance\\.now\\(\\)\\s*-/;
  window.requestAnimationFrame = (call) =>
    clock.test(call) ? setTimeout(() => call(performance.now()), 250) : frame(call);
})();</script>"""
OURS = b'"current_page":"' + ADDRESS.strip("/").encode() + b'"'  # "" before a person has signed in


class Early:
    """ASGI middleware: ``first(query)`` gives the HTML that goes into the Library's page."""

    def __init__(self, app: ASGIApp, first: Callable[[dict[str, str]], str]):
        self.app, self.first = app, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or "." in scope["path"]:
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = bytearray()

        async def held(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                if not is_page(message):
                    await send(message)
            elif not is_page(start):
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await self._send(scope, start, bytes(body), send)

        await self.app(scope, receive, held)

    async def _send(self, scope: Scope, start: dict[str, Any], whole: bytes, send: Send) -> None:
        if scope["path"] == ADDRESS and OURS in whole and MARK in whole:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"))[:20])
            made = await anyio.to_thread.run_sync(self._block, query)
            whole = whole.replace(MARK, made + MARK, 1)
        whole = whole.replace(HEAD, HEAD + CALM, 1)
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(whole)).encode())]})
        await send({"type": "http.response.body", "body": whole})

    def _block(self, query: dict[str, str]) -> bytes:
        try:
            grid = self.first(query)
        except (ValueError, OSError, sqlite3.Error):  # the page itself will say why
            return b""
        style = f"<style>{STYLE}{CSS.read_text()}</style>"
        return f'{style}<div id="early"><b>drift-studio</b>{grid}</div>'.encode()


def is_page(start: Mapping[str, Any]) -> bool:
    """Of the first message of a response."""
    kinds = [value for name, value in start["headers"] if name.lower() == b"content-type"]
    return start["status"] == 200 and kinds[:1] != [] and kinds[0].startswith(b"text/html")
