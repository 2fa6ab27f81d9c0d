"""Tags of entities: every scheme becomes the same IOB2, what fits no scheme is refused, and entities are seqeval's."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.datasets import tag_schemes
from zoo.data.datasets.conll import Sentence
from zoo.errors import BadInput

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "seqeval.json").read_text(encoding="utf8"))
PATH = Path("a.conll")


def sentences_of(*rows):
    """Sentences of a file without empty lines before the first."""
    found, line = [], 1
    for row in map(str.split, rows):
        found.append(Sentence(["word"] * len(row), row, list(range(line, line + len(row)))))
        line += len(row) + 1
    return found


def test_entities_are_those_of_seqeval():
    for case in RECORDED:
        expected = [[tuple(span) for span in row] for row in case["spans"]]
        assert [tag_schemes.spans(row) for row in case["predicted"]] == expected


def continues(row, place):
    if place == len(row) or row[place][2:] != row[place - 1][2:]:
        return False
    return row[place][0] in "IE" and row[place - 1][0] in "BI"


def is_entity(row, start, stop):
    """From the definition: it begins here, all else continues, and what follows does not."""
    begins = row[start] != "O" and not (start and continues(row, start))
    return begins and all(continues(row, place) for place in range(start + 1, stop)) and not continues(row, stop)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["O", *(letter + kind for letter in "BIES" for kind in ("-a", "-b-c"))]), max_size=9))
def test_entities_are_those_of_the_definition(row):
    pairs = [(start, stop) for start in range(len(row)) for stop in range(start + 1, len(row) + 1)]
    assert tag_schemes.spans(row) == [
        (start, stop, row[start][2:]) for start, stop in pairs if is_entity(row, start, stop)
    ]


# Of the first word, those inside, the last and a single one.
LETTERS = {"IOB2": "BIIB", "IOB1": "IIII", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}


def written(sentence, scheme):
    """Tags of a sentence, given as (type or None, words) one after the other."""
    row, before = [], None
    for kind, words in sentence:
        first, inside, last, alone = LETTERS["IOB2" if scheme == "IOB1" and kind == before else scheme]
        letters = [alone] if words == 1 else [first, *[inside] * (words - 2), last]
        row += ["O"] * words if kind is None else [f"{letter}-{kind}" for letter in letters]
        before = kind
    return row


LAYOUTS = st.lists(
    st.lists(st.tuples(st.sampled_from([None, "PER", "creative-work"]), st.integers(1, 4)), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(LAYOUTS, st.sampled_from(list(LETTERS)))
def test_every_scheme_becomes_iob2(layout, scheme):
    rows = [written(sentence, scheme) for sentence in layout]
    given_sentences = sentences_of(*map(" ".join, rows))
    found, name, notes = tag_schemes.to_iob2(PATH, given_sentences)
    expected = [written(sentence, "IOB2") for sentence in layout]
    assert [sentence.tags for sentence in found] == expected and name == tag_schemes.IOB2
    assert [sentence._replace(tags=[]) for sentence in found] == [each._replace(tags=[]) for each in given_sentences]
    assert notes == [] if rows == expected else re.fullmatch(r"a.conll: tags rewritten from \w+ to IOB2", notes[0])


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (["I-PER I-PER B-PER O", "I-LOC"], "IOB1"),
        (["B-PER E-PER O S-LOC"], "BIOES"),
        (["B-PER L-PER O U-LOC"], "BILOU"),
        (["B-PER M-PER E-PER O S-LOC"], "BMES"),
        (["B-PER M-PER E-PER O W-LOC"], "BMEWO"),
    ],
)
def test_what_was_rewritten_is_said(rows, name):
    assert tag_schemes.to_iob2(PATH, sentences_of(*rows))[2] == [f"a.conll: tags rewritten from {name} to IOB2"]


@settings(max_examples=100, deadline=None)
@given(
    LAYOUTS.filter(lambda layout: len({kind for row in layout for kind, _ in row}) == 3),
    st.sampled_from(list(LETTERS)),
    st.sampled_from("-_:/"),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["O", "o", "0", "-", "_", ""]),
)
def test_every_spelling_becomes_iob2(layout, scheme, separator, prefix, lower, outside):
    def spelt(tag):
        letter, kind = tag[0].lower() if lower else tag[0], tag[2:]
        return outside if tag == "O" else separator.join((letter, kind) if prefix else (kind, letter))

    rows = [written(sentence, scheme) for sentence in layout]
    # Without a first or inner word of an entity the marks may be of another kind.
    rows[0] = ["O", *written([("PER", 3), (None, 1)], scheme), *rows[0]]
    given_sentences = [each._replace(tags=list(map(spelt, each.tags))) for each in sentences_of(*map(" ".join, rows))]
    found, name, notes = tag_schemes.to_iob2(PATH, given_sentences)
    expected = [written(sentence, "IOB2") for sentence in layout]
    expected[0] = ["O", "B-PER", "I-PER", "I-PER", "O", *expected[0]]
    assert [sentence.tags for sentence in found] == expected and name == tag_schemes.IOB2
    plain = (separator, prefix, lower, outside) == ("-", True, False, "O")
    assert any("are spelt" in note for note in notes) != plain


def test_a_word_without_a_tag_takes_its_sentence_away():
    """`_` of CoNLL-U is no tag; where it stands for O, it is O (above)."""
    for tags, row in (("NN VB", ["NN", "VB"]), ("B-PER O", ["B-PER", "O"])):
        missing = Sentence(["a", "b"], [row[0], ""], [1, 2])
        found, _, notes = tag_schemes.to_iob2(PATH, [missing, *sentences_of(tags)])
        assert [each.tags for each in found] == [row]
        assert "WARNING: a.conll: left out 1 of 2 sentences, with words whose tag is '_'" in notes
    with pytest.raises(BadInput, match="every sentence has a word whose tag is '_'; expected another --tag_column"):
        tag_schemes.to_iob2(PATH, [missing._replace(tags=["NN", ""])])


@pytest.mark.parametrize(
    ("rows", "expected", "said"),
    [
        (["O I-PER I-PER", "B-LOC I-PER"], ["O B-PER I-PER", "B-LOC B-PER"], "1 of 4 tags of entities break IOB1"),
        (["B-PER O S-PER", "S-PER"], ["B-PER O B-PER", "B-PER"], "1 of 3 tags of entities break BIOES"),
        (["B-PER I-PER E-PER", "B-PER"], ["B-PER I-PER I-PER", "B-PER"], "1 of 4 tags of entities break IOB2"),
        (["B-PER I-PER 0", "O B-"], ["B-PER I-PER O", "O O"], "2 of 4 tags of entities break IOB2"),
        (["B-PER L-PER U-LOC", "I-LOC L-LOC"], ["B-PER I-PER B-LOC", "B-LOC I-LOC"], "1 of 5 tags of entities break"),
    ],
)
def test_bad_tags_are_fixed_on_demand_and_counted(rows, expected, said):
    found, name, notes = tag_schemes.to_iob2(PATH, sentences_of(*rows), fix=True)
    assert [" ".join(each.tags) for each in found] == expected and name == tag_schemes.IOB2
    assert len(notes) == 1 and f"WARNING: a.conll: {said}" in notes[0] and "fixed, the first in line " in notes[0]


@settings(max_examples=50, deadline=None)
@given(LAYOUTS, st.sampled_from(list(LETTERS)))
def test_good_tags_need_no_fix(layout, scheme):
    sentences = sentences_of(*(" ".join(written(sentence, scheme)) for sentence in layout))
    assert tag_schemes.to_iob2(PATH, sentences, fix=True) == tag_schemes.to_iob2(PATH, sentences)


def test_parts_of_speech_are_plain():
    given_sentences = sentences_of("NN VB -LRB- , PRP$", "NN S-x")
    assert tag_schemes.to_iob2(PATH, given_sentences) == (given_sentences, tag_schemes.PLAIN, [])
    _, name, notes = tag_schemes.to_iob2(PATH, sentences_of("O PER PER"))
    assert name == tag_schemes.PLAIN and notes == [
        "a.conll: tags have no B- or I- before them, so metrics are per word, not per entity"
    ]
    assert tag_schemes.to_iob2(PATH, sentences_of("O O"))[1:] == (tag_schemes.IOB2, [])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["O B-PER", "O I-PER"], "line 5: 'I-PER' after 'O' is neither IOB2 nor IOB1; expected B-PER to begin an"),
        (["B-PER I-LOC I-LOC O I-PER"], "line 2: 'I-LOC' after 'B-PER' (and 1 more) is neither IOB2 nor IOB1"),
        (["B-PER O", "I-PER B-LOC"], "line 4: 'I-PER' after 'O' is neither IOB2 nor IOB1"),
        (["B-PER O S-PER"], "line 2: 'O' after 'B-PER' is not BIOES; expected entities that are begun, continued and"),
        (["S-PER", "B-PER I-PER"], "line 4: 'O at the end' after 'I-PER' is not BIOES"),
        (["U-PER L-PER B-PER L-LOC"], "line 2: 'L-PER' after 'U-PER' (and 1 more) is not BILOU"),
        (["B-PER L-PER", "O E-PER"], "line 5: 'E-PER' after tags with B-, L-; expected one scheme: IOB2 (B I), BIOES"),
        (["B-PER I-PER 0", "O"], "line 3: '0' among tags of entities; expected O, or B- or I- and a type"),
        (["B-PER", "O b-PER"], "line 4: 'b-PER' among tags of entities"),
        (["O B-PER B-"], "line 3: 'B-' among tags of entities"),
    ],
)
def test_bad_tags(rows, said):
    with pytest.raises(BadInput, match=re.escape(f"a.conll {said}")) as error:
        tag_schemes.to_iob2(PATH, sentences_of(*rows))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
