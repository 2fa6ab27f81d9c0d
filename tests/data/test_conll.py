"""CoNLL files: what stands in them comes back, with its line; what does not fit is said in one line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import conll
from zoo.errors import BadInput


def read(tmp_path, content, **columns):
    path = tmp_path / "a.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return conll.read(path, **columns)


def plain(sentences):
    return [(sentence.words, sentence.tags) for sentence in sentences]


EU = (["EU", "rejects", "it"], ["B-ORG", "O", "O"])
HE = (["He", "left"], ["O", "O"])


@pytest.mark.parametrize(
    "content",
    [
        "EU B-ORG\nrejects O\nit O\n\nHe O\nleft O\n",
        "EU\tB-ORG\nrejects\tO\nit\tO\n\nHe\tO\nleft\tO",
        "\ufeffEU B-ORG\r\nrejects O\r\nit O\r\n\r\nHe O\r\nleft O\r\n",
        "\n\n EU  B-ORG \nrejects   O\nit O\n \t \n\n\nHe O\nleft O\n\n\n",
        "-DOCSTART- -X-\n\nEU B-ORG\nrejects O\nit O\n-DOCSTART-\nHe O\nleft O\n",
        "# sent_id = 1\n-DOCSTART- O\nEU\tB-ORG\nrejects\tO\nit\tO\n\n# text = He left\nHe\tO\t\nleft\tO\n",
    ],
)
def test_one_meaning_in_many_shapes(tmp_path, content):
    assert plain(read(tmp_path, content)) == [EU, HE]


def test_lines_are_those_of_the_file(tmp_path):
    found = read(tmp_path, "-DOCSTART- O\n\nEU B-ORG\nleft O\n\n\nHe O\n")
    assert [sentence.lines for sentence in found] == [[3, 4], [7]]


CONLLU = """# sent_id = 1
# text = EU\trejects it
1\tEU\t_\tPROPN\tNNP\t_\t2\tnsubj\t_\tSpaceAfter=No
2-3\trejectsit\t_\t_\t_\t_\t_\t_\t_\t_
2\trejects\t_\tVERB\tVBZ\t_\t0\troot\t_\t_
2.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_
3\tit\t_\tPRON\t_\t_\t2\tobj\t_\t_

#sent_id = 2
0.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_
1-2\tHeleft\t_\t_\t_\t_\t_\t_\t_\t_
1\tHe\t_\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2\tleft\t_\tVERB\tVBD\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize("content", [CONLLU, re.sub("#.*\n", "", CONLLU).replace("\t", " ")])
def test_conllu_has_words_only(tmp_path, content):
    """No range of a multiword token (1-2), no empty node (8.1), no comment; `_` is a tag that is not given."""
    found = read(tmp_path, content, token_column=2, tag_column=4)
    assert plain(found) == [(EU[0], ["PROPN", "VERB", "PRON"]), (HE[0], ["PRON", "VERB"])]
    assert [row.tags for row in read(tmp_path, content, token_column=2, tag_column=5)] == [
        ["NNP", "VBZ", ""],
        ["PRP", "VBD"],
    ]
    said = {
        (1, 4): "column 1 has the numbers of the words, not the words; expected --token_column=2",
        (2, -1): "column 10 has 'SpaceAfter=No', and no line has a tag there; expected --tag_column with",
        (2, 3): "column 3 has '_', and no line has a tag there",
    }
    for (token, tag), message in said.items():
        with pytest.raises(BadInput, match=re.escape(message)):
            read(tmp_path, content, token_column=token, tag_column=tag)


@pytest.mark.parametrize("separator", [" _ _ ", "\t_\t_\t"])
def test_comments_begin_a_sentence(tmp_path, separator):
    """Also with a tab inside or with as many columns as a word; a hashtag, and # inside a sentence, is a word."""
    words = [("#tag", "B-X"), ("#", "O"), ("it", "O")]
    rows = "".join(f"{word}{separator}{tag}\n" for word, tag in words)
    for comment in ("# id d9-a5\tdomain=en\n", "# sent_id = 1\n# x\n", "#\n"):
        found = read(tmp_path, f"{comment}{rows}\n{comment}{rows}")
        assert plain(found) == 2 * [([word for word, _ in words], [tag for _, tag in words])]


def test_times_are_not_numbers_of_words(tmp_path):
    """Ranges and decimals are words, and `_` is a tag, where the first column does not count words."""
    found = read(tmp_path, "0.50 hello O\n0.75 there _\n\n1-0 1 O\n2-1 _ O\n", token_column=2)
    assert plain(found) == [(["hello", "there"], ["O", "_"]), (["1", "_"], ["O", "O"])]


def test_columns_by_number(tmp_path):
    content = "1 EU NNP B-ORG\n2 rejects VBZ O\n3 it PRP O\n"
    assert plain(read(tmp_path, content, token_column=2)) == [EU]
    assert plain(read(tmp_path, content, token_column=-3, tag_column=4)) == [EU]
    assert read(tmp_path, content, token_column=2, tag_column=3)[0].tags == ["NNP", "VBZ", "PRP"]
    assert plain(read(tmp_path, "B-ORG EU\nO rejects\nO it\n", token_column=-1, tag_column=1)) == [EU]


def test_signs_are_words(tmp_path):
    """Hash signs, ideographic and no-break spaces, line separators; spaces where tabs cut the columns."""
    words = ["#", "#tag", "\u3000", "\xa0", "a\u2028b", "\u200b", "“"]
    content = "".join(f"{word} O\n" for word in words)
    assert read(tmp_path, content)[0].words == words
    assert read(tmp_path, content.replace(" O", "\tO"))[0].words == words
    assert read(tmp_path, "# O\n")[0].words == ["#"]
    # A stray tab makes no comments of words.
    assert read(tmp_path, content + "\t\n")[0].words == words
    assert read(tmp_path, "New York\tB-LOC\n,\tO\n")[0].words == ["New York", ","]


# Without digits: rows that count 0, 1, ... are numbers of words.
TOKENS = st.text(st.characters(exclude_categories=["C", "Nd", "Zs", "Zl", "Zp"]), min_size=1, max_size=5)
SENTENCES = st.lists(st.lists(st.tuples(TOKENS, TOKENS, TOKENS), min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(sentences=SENTENCES, separator=st.sampled_from([" ", "\t", "  "]), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_is_written_is_read(tmp_path_factory, sentences, separator, end):
    lines = [end.join(separator.join(columns) for columns in sentence) + end for sentence in sentences]
    found = read(tmp_path_factory.mktemp("conll"), end.join(lines))
    assert plain(found) == [tuple([columns[place] for columns in each] for place in (0, 2)) for each in sentences]


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("", {}, "has no words: expected a token and its tag in a line"),
        ("\n\n-DOCSTART- O\n\n", {}, "has no words"),
        (b"a O\ncaf\xe9 O\n", {}, "line 2 is not text in UTF-8"),
        ("a O\n".encode("utf-16"), {}, "line 1 is not text in UTF-8"),
        ("a O\n".encode("utf-16-le"), {}, "line 1 has a NUL character"),
        ("\nEU\nleft\n", {}, "line 2 has 1 columns: --token_column=1 and --tag_column=-1 are the same one"),
        ("a O\nb\n", {}, "line 2 has 1 columns; expected 2 as in line 1"),
        ("a O\nNew York B-LOC\n", {}, "line 2 has 3 columns; expected 2 as in line 1 (separate them with tabs"),
        ("a\tO\n\tO\n", {}, "line 2: its token is empty; expected one in column 1"),
        ("a\tx\tO\nb\t\tO\n", {"tag_column": 2}, "line 2: its tag is empty; expected one in column 2"),
        ("a O\n", {"tag_column": 3}, "line 1 has 2 columns: there is none for --tag_column=3"),
        ("a O\n", {"token_column": -3}, "line 1 has 2 columns: there is none for --token_column=-3"),
        ("a O\n", {"tag_column": 0}, "--tag_column is 0: expected 1 for the first column"),
        ("a O\n", {"tag_column": 1}, "--token_column=1 and --tag_column=1 are the same one"),
    ],
)
def test_bad_files(tmp_path, content, columns, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        read(tmp_path, content, **columns)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert said.startswith("--") or str(tmp_path / "a.conll") in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(BadInput, match=r"none\.conll cannot be read: No such file or directory"):
        conll.read(tmp_path / "none.conll")
