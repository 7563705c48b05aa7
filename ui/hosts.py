"""Which names a page answers to. A web site can have its own name point to this machine and so speak to the
page through a visitor's browser; what it cannot do is have the browser send another ``Host`` than that name.
Addresses in numbers are no such name."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")


def names_of(host: str, allowed: Sequence[str] = ()) -> frozenset[str]:
    """The names of a page that is bound to ``host``: this machine's own where that is all of its addresses,
    and what was ``allowed``."""
    own = {socket.gethostname(), socket.getfqdn()} if host in EVERYWHERE else {host}
    return frozenset(name.lower().rstrip(".") for name in (*OWN, *own, *allowed) if name)


class Hosts:
    """ASGI middleware: 400 for a request whose ``Host`` is none of ``names``; ``numbers``: any address in
    numbers will do."""

    def __init__(self, app: ASGIApp, names: frozenset[str], numbers: bool = False):
        self.app, self.names, self.numbers = app, names, numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
            if len(hosts) != 1 or not self.knows(hosts[0]):
                told = ascii(hosts[0][:100]) if hosts else "none"
                text = (
                    f"got the host {told}, which this page does not answer to; start it with --allow-host "
                    "NAME where that is its name\n"
                )
                await PlainTextResponse(text, status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Whether ``name``, ``name:port`` or ``[address]:port`` is one of the page's."""
        text = host.strip().lower()
        bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::[0-9]*)?", text)
        plain = re.fullmatch(r"([^\[\]:/@]+)(?::[0-9]*)?", text)
        if not (found := bracketed or plain):
            return False
        name = found[1]
        if name.rstrip(".") in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.numbers
