"""A PNG that says what its bytes are: the SHA-256 of all that stands before it, in a text entry that is the
last one of the file. Whether a picture is as it was written is then seen without decoding it, and one that
was saved anew by another program is not.
"""

import hashlib
import struct
import zlib

KEY = "drift-studio-sha256"  # the PNG text that holds it
END = 12  # bytes of the closing chunk
LENGTH = 4 + 4 + len(KEY) + 1 + 64 + 4  # length, type, key, zero, hex digits, checksum


def sealed(png: bytes) -> bytes:
    """The same picture with its digest inside."""
    body = png[:-END]
    said = f"tEXt{KEY}\0{hashlib.sha256(body).hexdigest()}".encode()
    return body + struct.pack(">I", len(said) - 4) + said + struct.pack(">I", zlib.crc32(said)) + png[-END:]


def holds(png: bytes) -> bool:
    """Whether a picture bears its digest."""
    return len(png) > LENGTH + END and sealed(png[: -LENGTH - END] + png[-END:]) == png
