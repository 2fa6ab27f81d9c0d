"""Raw text is split as the training words look: nothing is lost, and what training kept whole stays whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.text import word_splitting
from zoo.data.text.word_splitting import WordRule, words_of

MIXED = "In 2024, 邓小平's\u00a0naïve cafe\u0301 (U.S.)!\n第１页 हिन्दी"
SIGNS = st.sampled_from(".,-'#:)")


@given(
    st.text(st.one_of(st.characters(), st.sampled_from(" \n\tabM1.,-'#:)好差１\u0301")), max_size=30),
    st.sampled_from(word_splitting.WORDS),
    st.builds(
        WordRule,
        *[st.text(SIGNS, max_size=4)] * 4,
        endings=st.just(("'s", "n't")),
        runs=st.booleans(),
        initials=st.booleans(),
        links=st.booleans(),
        ideographs=st.booleans(),
        kept=st.just((":)", "Mr.", "a1")),
    ),
)
def test_words_give_back_the_text(text, how, rule):
    spans, done, between = words_of(text, how, rule), 0, ""
    for start, end in spans:
        assert done <= start < end
        between += text[done:start]
        done = end
    # All but white space is in one word, and no white space is in any.
    assert not (between + text[done:]).strip()
    assert not any(character.isspace() for start, end in spans for character in text[start:end])


def test_words_of_each_kind():
    found = {
        how: [MIXED[start:end] for start, end in words_of(MIXED, how)] for how in ("characters", "spaces", "signs")
    }
    assert found["characters"] == [character for character in MIXED if not character.isspace()]
    assert found["spaces"] == MIXED.split()
    assert found["signs"] == [
        "In", "2024", ",", "邓", "小", "平", "'", "s", "naïve", "cafe\u0301", "(", "U", ".", "S", ".", ")", "!",
        "第", "１", "页", "हिन्दी",
    ]  # fmt: skip


def split(text, rule):
    return [text[start:end] for start, end in words_of(text, "learned", rule)]


KEPT = ["Flights to AL-AIN , U.A.E. cost 1,000 $ ... or 50% , Mr. X 's #tag @me said ( do n't ) - see http://a.b/c ."]
SEPARATED = ["Flights to AL - AIN , U . A . E . cost 1 , 000 $ . . . or 50 % , Mr . X ' s # tag - yes ."]


AS_KEPT = "He flew ( AL-AIN , U.S.A. ) , for 3,500 $ ... 20% off , Mr. Y 's #new @you , is n't it ? http://x.y/z ."
AS_SEPARATED = (
    "He flew ( AL - AIN , U . S . A . ) , for 3 , 500 $ . . . 20 % off , Mr . Y ' s # new @ you , isn ' t it ? http : "
    "/ / x . y / z ."
)


@pytest.mark.parametrize(("training", "expected"), [(KEPT, AS_KEPT), (SEPARATED, AS_SEPARATED)])
def test_signs_are_separated_as_in_training(training, expected):
    text = "He flew (AL-AIN, U.S.A.), for 3,500$... 20% off, Mr. Y's #new @you, isn't it? http://x.y/z."
    sentences = 3 * [row.split(" ") for row in training]
    rule = word_splitting.learned(sentences)
    assert split(text, rule) == expected.split(" ")
    assert word_splitting.kept_whole(sentences, rule) == 1
    assert (
        word_splitting.from_json(
            word_splitting.as_json(rule) | {"endings": list(rule.endings), "kept": list(rule.kept)}
        )
        == rule
    )


def test_chinese_words_stay_whole_where_training_has_words():
    assert split("邓小平 说好", word_splitting.learned([["邓小平", "说"], ["中国", "人民"]])) == ["邓小平", "说好"]
    assert split("邓小平 说好", word_splitting.learned([["邓", "小", "说"]])) == ["邓", "小", "平", "说", "好"]


def test_characters_are_told_from_words():
    assert word_splitting.are_characters([list("在1998年"), list("abc")])
    assert not word_splitting.are_characters([["在", "1998", "年"]]) and not word_splitting.are_characters([[]])


@pytest.mark.parametrize("damage", [{"kept": [""]}, {"runs": 1}, {"letters": ["-"]}, {"more": 1}])
def test_a_damaged_rule_is_no_rule(damage):
    good = word_splitting.as_json(WordRule()) | {"endings": [], "kept": []}
    assert word_splitting.from_json(good) == WordRule()
    assert word_splitting.from_json(good | damage) is None and word_splitting.from_json([good]) is None
