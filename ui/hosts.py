"""Which names a page answers to, and which pages may ask. A web site can have its own name point to this
machine and so speak to the page through a visitor's browser; what it cannot do is have the browser send
another ``Host`` than that name. Nor can it leave out its own name, the ``Origin``, where it sends something
to this machine. Addresses in numbers are no such name."""

import ipaddress
import re
import socket
from collections.abc import Collection, Sequence

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
ELSEWHERE = ("file=http", "proxy=")  # gradio would fetch what is there


def names_of(host: str, allowed: Sequence[str] = ()) -> set[str]:
    """The names of a page that is bound to ``host``: this machine's own where that is all of its addresses,
    and what was ``allowed``."""
    own = {socket.gethostname(), socket.getfqdn()} if host in EVERYWHERE else {host}
    return {name.lower().rstrip(".") for name in (*OWN, *own, *allowed) if name}


class Hosts:
    """ASGI middleware: 400 for a request whose ``Host`` is none of ``names``, 403 for one of a page that is
    served elsewhere, and for addresses behind which lies another server. ``numbers``: any address in numbers
    will do. ``names`` may grow."""

    def __init__(self, app: ASGIApp, names: Collection[str], numbers: bool = False):
        self.app, self.names, self.numbers = app, names, numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refused := self.refusal(scope)):
            status, words = refused
            await PlainTextResponse(f"{words}\n", status_code=status)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words of a request that is not answered."""
        hosts, origins = (
            [value.decode("latin-1") for key, value in scope["headers"] if key == name]
            for name in (b"host", b"origin")
        )
        if len(hosts) != 1 or not self.knows(hosts[0]):
            return 400, (
                f"got the host {_brief(hosts)}, which this page does not answer to; start it with "
                "--allow-host NAME where that is its name"
            )
        if origins and (len(origins) != 1 or not self.asks(origins[0], hosts[0])):
            return 403, (
                f"got a request from a page at {_brief(origins)}, expected one from this page; open it by "
                "its own address"
            )
        if scope["path"].lower().rpartition("/gradio_api/")[2].startswith(ELSEWHERE):
            return 403, "got an address elsewhere, expected a file of this page; it fetches nothing"
        return None

    def knows(self, host: str) -> bool:
        """Whether ``name``, ``name:port`` or ``[address]:port`` is one of the page's."""
        if (found := _parted(host)) is None:
            return False
        if found[0].rstrip(".") in self.names:
            return True
        try:
            ipaddress.ip_address(found[0])
        except ValueError:
            return False
        return self.numbers

    def asks(self, origin: str, host: str) -> bool:
        """Whether a page at ``origin`` is this one, which was asked for as ``host``: the same name and port,
        or another of its names and the same port."""
        scheme, found, rest = origin.strip().lower().partition("://")
        here, there = _parted(host), _parted(rest)
        if not found or scheme not in ("http", "https") or here is None or there is None:
            return False
        return there[1] == here[1] and (there[0] == here[0] or there[0].rstrip(".") in self.names)


def _parted(host: str) -> tuple[str, str] | None:
    """Name and port, "" for none; None for what is no host."""
    text = host.strip().lower()
    bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::([0-9]*))?", text)
    plain = re.fullmatch(r"([^\[\]:/@]+)(?::([0-9]*))?", text)
    found = bracketed or plain
    return None if found is None else (found[1], found[2] or "")


def _brief(said: list[str]) -> str:
    return ascii(said[0][:100]) if said else "none"
