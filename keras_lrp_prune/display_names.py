"""Names from elsewhere (of files, classes, layers, models) as they may be shown to a person."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_MOST_MEANT, _MOST_LISTED = 3, 10


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


def meant(name: str, known: Collection[str]) -> str:
    """A sentence on what an unknown name may have stood for.

    Args:
        name: What was given.
        known: What there is; names within others are `"outer/inner"`.

    Returns:
        The names that end in it or are spelled much like it; if there are none, the first ones.

    Example:
        >>> meant("conv_1", ["base/conv_1", "base/conv_2", "scores"])
        "Did you mean 'base/conv_1'?"
        >>> meant("x", ["a", "b"])
        'There are: a, b.'
    """
    first, rest = list(known)[:_MOST_LISTED], len(known) - _MOST_LISTED
    listed = f"There are: {', '.join(first)}{f' and {rest} more' if rest > 0 else ''}."
    return near(name, known) or listed


def near(name: str, known: Collection[str]) -> str:
    """The same, if a name is much like it; else nothing.

    Example:
        >>> near("MobileNut", ["MobileNet", "VGG16"]), near("x", ["a", "b"])
        ("Did you mean 'MobileNet'?", '')
    """
    close = [path for path in known if path.endswith(f"/{name}")]
    if not close:
        spelled = {path.rpartition("/")[2]: path for path in known} | {path: path for path in known}
        close = [spelled[match] for match in get_close_matches(name, spelled, _MOST_MEANT)]
    if not close:
        return ""
    *others, last = map(repr, dict.fromkeys(close[:_MOST_MEANT]))
    return f"Did you mean {' or '.join([', '.join(others), last] if others else [last])}?"
