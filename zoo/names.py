"""Names of classes and columns, which are data: escaped where they are shown, unique where they are keys."""

from collections.abc import Sequence


def escaped(name: str) -> str:
    r"""A name as it is shown: what cannot be seen is written as an escape (`\n`, `\u200b`), so names stay distinct.

    Control characters act on a terminal, and zero-width and direction characters make two names look alike.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name)


def keys(names: Sequence[str]) -> list[str]:
    """Names as parts of a metric's name: escaped, `|` for the separator `/`, and numbered where two become equal."""
    result: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = key = escaped(str(name)).replace("/", "|")
        number = 1
        while key in taken:
            number += 1
            key = f"{plain} ({number})"
        taken.add(key)
        result.append(key)
    return result
