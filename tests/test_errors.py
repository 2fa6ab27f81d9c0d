"""The line for an error that nobody expected."""

import pytest

from zoo import errors


def _raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a\x1b[31m\n\tpages of it"), "unexpected ValueError: a [31m (tests/test_errors.py, line "),
        (RuntimeError(), "unexpected RuntimeError (tests/test_errors.py, line "),
        (KeyError("name"), "unexpected KeyError: 'name' (tests"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            "unexpected MemoryError: not enough memory; Unable to allocate 9 TiB (",
        ),
        (MemoryError(), "unexpected MemoryError: not enough memory ("),
        (OSError("x" * 10**6), f"unexpected OSError: {'x' * 300} ("),
    ],
)
def test_unforeseen_is_one_line(error, said, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    line = errors.unforeseen(_raised(error))
    assert line.startswith(said) and "\n" not in line and line.isprintable() and len(line) < 500
    assert line.endswith("; please report it with what --traceback prints")


def test_unforeseen_says_what_was_kept_and_shows_the_rest():
    error = _raised(ValueError("no"))
    error.add_note("step 3 is saved")
    line = errors.unforeseen(error, "the answers before it are printed")
    assert "); step 3 is saved; the answers before it are printed; please report it" in line
    text = errors.unforeseen(error, full=True)
    assert text.startswith("Traceback (most recent call last):")
    assert text.splitlines()[-1].endswith("; step 3 is saved; please report it with this output")


def test_an_error_that_was_never_raised_has_no_place():
    assert errors.unforeseen(ValueError("no")).startswith("unexpected ValueError: no; please report it")
