"""The Library's first thumbnails stand in the page as it is sent: they are seen before the page's own script,
which takes a second or two to start, has run. The grid takes their place when it is there (`library.js`)."""

import sqlite3
from collections.abc import Callable
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
OURS = b'"current_page":"' + ADDRESS.strip("/").encode() + b'"'  # "" before a person has signed in


class Early:
    """ASGI middleware: ``first(query)`` gives the HTML that goes into the Library's page."""

    def __init__(self, app: ASGIApp, first: Callable[[dict[str, str]], str]):
        self.app, self.first = app, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ADDRESS or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"))[:20])
        start: dict[str, Any] = {}
        body = bytearray()

        async def held(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            whole = bytes(body)
            if start["status"] == 200 and OURS in whole and MARK in whole:
                made = await anyio.to_thread.run_sync(self._block, query)
                whole = whole.replace(MARK, made + MARK, 1)
            headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(whole)).encode())]})
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, held)

    def _block(self, query: dict[str, str]) -> bytes:
        try:
            grid = self.first(query)
        except (ValueError, OSError, sqlite3.Error):  # the page itself will say why
            return b""
        style = f"<style>{STYLE}{CSS.read_text()}</style>"
        return f'{style}<div id="early"><b>drift-studio</b>{grid}</div>'.encode()
