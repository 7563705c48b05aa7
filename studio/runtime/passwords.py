"""Who may open a page, by name and password. A password is kept as a salt and its scrypt hash (RFC 7914),
one line ``name:salt:hash`` for each person."""

import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "STUDIO_PASSWORD"
SHORTEST, LONGEST = 8, 1000  # characters of a password
COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some hundredths of a second
NOBODY = f"{'0' * 32}:{'0' * 128}"  # whose password is asked for where a name is not known


def hashed(name: str, password: str) -> str:
    """The line of a person. Raises ``ValueError`` for a name or a password that will not do."""
    if not name.isprintable() or not name.strip() or ":" in name or name != name.strip() or name[0] == "#":
        raise ValueError(f"got the name {ascii(name[:40])}, expected one without a colon, such as ada")
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValueError(f"got {len(password)} characters, expected a password of {SHORTEST} or more")
    salt = secrets.token_hex(16)
    return f"{name}:{salt}:{_hash(password, salt)}"


def fits(people: Mapping[str, str], name: str, password: str) -> bool:
    """Whether it is that person's password; takes as long for a name that is not there."""
    salt, _, told = people.get(name, NOBODY).partition(":")
    return hmac.compare_digest(_hash(password[:LONGEST], salt), told) and name in people


def people(user: str | None, file: str | Path | None) -> dict[str, str]:
    """``salt:hash`` by name: all of a file, or the one ``user``, from the file or else with the password of
    the environment variable ``STUDIO_PASSWORD``. Raises ``ValueError`` where there is none."""
    found = {} if file is None else _read(Path(file).expanduser())
    if user is None or user in found:
        return found if user is None else {user: found[user]}
    password = os.environ.get(VARIABLE, "")
    if not password:
        where = "" if file is None else f"{file} has no line for {ascii(user[:40])}, and "
        raise ValueError(
            f"{where}the environment variable {VARIABLE} holds no password; set it, or give --users FILE "
            "with a line of studio ui --hash-password NAME"
        )
    try:
        return dict([hashed(user, password).split(":", 1)])
    except ValueError as error:
        raise ValueError(f"{VARIABLE} of {ascii(user[:40])}: {error}") from None


def check(host: str, share: bool, people: Mapping[str, str] | None) -> None:
    """Raises ``ValueError`` for a page that others could reach, at ``host`` or by a shared link, and nobody
    has a password for."""
    if (share or not _is_here(host)) and not people:
        raise ValueError(
            f"{'a shared link' if share else host} can be reached from other machines, and the page would "
            f"ask for no password; add --user NAME and set {VARIABLE}, or give --users FILE"
        )


def _is_here(host: str) -> bool:
    """Whether only this machine reaches what is bound to ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"the file of passwords {file} cannot be read: {why}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (plain := line.strip()) or plain.startswith("#"):
            continue
        name, *rest = plain.split(":")
        if not name or [len(part) for part in rest] != [32, 128] or not all(map(_is_hex, rest)):
            raise ValueError(  # not the line itself: it may hold a password
                f"{file}, line {number}: expected name:salt:hash as studio ui --hash-password NAME prints it"
            )
        found[name] = ":".join(rest)
    if not found:
        raise ValueError(f"{file} names nobody; add a line of studio ui --hash-password NAME")
    return found


def _hash(password: str, salt: str) -> str:
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=bytes.fromhex(salt), n=COST["n"], r=COST["r"], p=COST["p"]).hex()


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)
