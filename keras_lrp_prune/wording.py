"""Names from elsewhere (of files, classes, layers, models) as they may be shown to a person."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Makes text that cannot steer a terminal: what is no printable character is escaped.

    A name can hold colour codes, line breaks, bells or marks that turn the direction of writing,
    and a file name bytes of no encoding. They are shown as `repr` shows them.

    Args:
        text: Anything; `str` of it is taken.

    Returns:
        The text, each character that `str.isprintable` denies as an escape sequence.

    Example:
        >>> printable("Blume \x1b[31m\n\u82b1")
        'Blume \\x1b[31m\\n花'
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text)
    )
