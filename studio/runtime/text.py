"""Bytes of a text file in whatever encoding it was saved."""

import codecs

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(data: bytes) -> tuple[str, str]:
    """The text, with line ends of all kinds as one, and the name of its encoding where that had to be
    guessed, otherwise empty: marked files and UTF-8 are certain, UTF-16 is told by its zeros, and all else is
    taken for Windows' Latin. Raises ``ValueError`` for what is no text."""
    marked = next((name for mark, name in MARKS if data.startswith(mark)), None)
    for name, said in (
        ((marked, ""),)
        if marked
        else (
            ("utf-8", ""),
            (_wide(data), "UTF-16"),
            ("cp1252", "Latin (Windows-1252)"),
            ("latin-1", "Latin-1"),
        )
    ):
        try:
            text = data.decode(name) if name else "\0"
        except UnicodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n"), said
    raise ValueError("it is no text")


def _wide(data: bytes) -> str:
    """UTF-16 without a mark, by where the zero bytes of its plain letters and separators lie; empty for what
    is none."""
    some = data[:4000]
    even, odd = some[0::2].count(0), some[1::2].count(0)
    if max(even, odd) < len(some) / 8:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"
