"""`--explain`: integrated gradients against what is known of them, and the page that shows them."""

import html.parser
import json
import stat

import keras
import numpy as np
import pytest

from tests.cli.test_cli import make_run
from zoo.cli import main
from zoo.data.text import tokenizer
from zoo.errors import BadInput, NonFinite
from zoo.models import lstm, lstm_layers
from zoo.predict.attribution import html as page
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import Explainer
from zoo.predict.predictors.text_classifier import TextClassifier

# A word must be seen twice to be learned.
WORDS = tokenizer.train(2 * ["good bad film the of a 好 差 书 k g < > script ( ) ! &"], "word", 60)
TEXTS = ["good", "the film 好 of 差", "bad bad bad", "good film the of a 书 " * 8, ""]


def predictor_of(model, classes=("no", "yes"), max_length=40, cut="head", words=WORDS):
    return TextClassifier(model, classes, words, max_length, cut)


def network(classes=2, scale=1.5, rows=WORDS.vocabulary_size, **settings):
    """A classifier with large random weights, so that its logits bend on the path."""
    keras.utils.set_random_seed(3)
    model = lstm.classifier(rows, classes, width=6, units=5, **settings).model
    draw = np.random.default_rng(4)
    model.set_weights([draw.normal(0, scale / np.sqrt(value.shape[0]), value.shape) for value in model.get_weights()])
    return model


def layered(head):
    """A model that reads the mean of its tokens' vectors, and what `head` makes of it."""
    tokens = keras.Input((None,), dtype="int32")
    lengths = lstm_layers.Lengths()(tokens)
    embedding = lstm_layers.TokenEmbedding(WORDS.vocabulary_size, 3)
    return keras.Model(tokens, head(lstm_layers.Pool("mean")(embedding(tokens), lengths)))


def vectors(model, text):
    [embedding] = [layer for layer in model.layers if isinstance(layer, lstm_layers.TokenEmbedding)]
    return np.asarray(embedding.embeddings)[WORDS.encode([text]).ids]


def logit_of(model, text, found, max_length=40):
    """The predicted class's logit, without a token of padding."""
    ids = WORDS.encode([text]).ids[:max_length].astype(np.int32)
    row = np.asarray(model((ids if len(ids) else np.zeros(1, np.int32))[None]))[0]
    label = found.classes.index(found.predicted)
    return float(row[label] if len(row) > 1 else row[0] * (1 if label else -1))


@pytest.mark.parametrize("pooling", lstm_layers.POOLINGS)
def test_completeness(pooling):
    classes = ("a", "b", "c") if pooling in ("attention", "max") else ("no", "yes")
    model = network(len(classes), bidirectional=True, pooling=pooling)
    found = Explainer(predictor_of(model, classes)).explain(TEXTS)
    ends = [logit_of(model, *pair) for pair in zip(TEXTS, found)]
    # The baseline by itself: the same network, in which no word has a vector.
    model.get_layer("embedding").embeddings.assign(np.zeros((WORDS.vocabulary_size, 6), np.float32))
    for text, one, end in zip(TEXTS, found, ends):
        baseline = logit_of(model, text, one)
        assert one.complete and one.logit == pytest.approx(end, abs=1e-5)
        assert one.baseline == pytest.approx(baseline, abs=1e-5)
        assert sum(token.attribution for token in one.read) == pytest.approx(end - baseline, rel=0.01, abs=1e-3)
    assert max(abs(one.logit - one.baseline) for one in found) > 0.2


def test_a_linear_model_is_its_weights():
    model = layered(keras.layers.Dense(3))
    for text in TEXTS[:4]:
        [found] = Explainer(predictor_of(model, ("a", "b", "c"))).explain([text])
        weights = np.asarray(model.layers[-1].kernel)[:, found.classes.index(found.predicted)]
        each = vectors(model, text)[:40]
        expected = each @ weights / len(each)
        np.testing.assert_allclose([token.attribution for token in found.read], expected, atol=1e-6)


def test_a_square_shares_by_size_and_signs_by_the_class():
    # Of s^2 with s = s1 + ... + sn each share is si * s; the logit of the first class is its negative.
    for sign in (1.0, -1.0):
        dense = keras.layers.Dense(1, use_bias=False)
        model = layered(lambda pooled, dense=dense, sign=sign: sign * keras.ops.square(dense(pooled)))
        [weights] = dense.get_weights()
        for text in TEXTS[:4]:
            [found] = Explainer(predictor_of(model)).explain([text])
            each = vectors(model, text)[:40] @ weights[:, 0]
            each /= len(each)
            assert found.predicted == ("yes" if sign > 0 else "no")
            np.testing.assert_allclose([token.attribution for token in found.read], each * each.sum(), atol=1e-6)


def steep(factor):
    """A logit that rises within about 1 / factor of the path, at its middle."""
    dense = keras.layers.Dense(1)
    model = layered(lambda pooled: keras.ops.tanh(factor * (dense(pooled) - 0.5)))
    each = vectors(model, "good")
    dense.set_weights([each.T / (each**2).sum(), np.zeros(1)])
    return Explainer(predictor_of(model)).explain(["good"])[0]


def test_the_path_is_cut_finer_until_the_sum_holds():
    smooth, bent, broken = steep(1.0), steep(300.0), steep(1e9)
    assert smooth.steps == 16 < bent.steps < broken.steps == 1024
    assert bent.complete and bent.sum == pytest.approx(2.0, rel=0.01)
    assert not broken.complete and broken.gap > 0.02
    assert "after 1,024 steps: attributions are rough" in terminal.account(broken)
    assert terminal.as_json(broken)["completeness"]["holds"] is False


@pytest.mark.parametrize("cut, kept", [("head", "abcd"), ("tail", "efgh"), ("head_tail", "afgh")])
def test_what_is_cut_off_has_no_share(cut, kept):
    words = tokenizer.train(2 * ["a b c d e f g h"], "word", 30)
    model = network(rows=words.vocabulary_size)
    [found] = Explainer(predictor_of(model, max_length=4, cut=cut, words=words)).explain(["a b c d e f g h"])
    assert "".join(token.token for token in found.read) == kept and len(found.tokens) == 8
    assert found.complete and "4 of 8 tokens not read" in terminal.account(found)
    assert terminal.as_json(found)["not_read"] == 4
    cut_off = "".join(part.text for part in terminal.segments(found) if not part.read)
    assert set(cut_off.replace(" ", "")) == set("abcdefgh") - set(kept)
    read = Reader(page.render([("x", found)]))
    assert read.text == "a b c d e f g h" and set(read.cut) - {" "} == set("abcdefgh") - set(kept)
    assert terminal.coloured(found).count("\x1b[2m") >= 1


@pytest.fixture(scope="module")
def explainer():
    return Explainer(predictor_of(network()))


def test_every_character_is_shown_once(explainer):
    draw = np.random.default_rng(5)
    alphabet = [*"god ba㎏好𝄞 \n\t<>&\"'", "👩\u200d🚀", "\ufb01", "e\u0301", "\x1b[31m", "good"]
    for _ in range(40):
        text = "".join(draw.choice(alphabet, draw.integers(0, 15)))
        [found] = explainer.explain([text])
        parts = terminal.segments(found)
        assert "".join(part.text for part in parts) == text
        total = sum(part.attribution for part in parts if part.attribution is not None)
        assert not found.text or not parts or total == pytest.approx(found.sum, abs=1e-5) or found.tokens[0].end == 0
        assert "\n" not in terminal.coloured(found) and "\x1b[31mx" not in terminal.plain(found)


def test_two_tokens_of_one_character_are_one_part():
    pieces = tokenizer.train(["k g kilo gram"], "wordpiece", 40)
    model = network(rows=pieces.vocabulary_size)
    assert [piece.token for piece in pieces.pieces("㎏")] == ["k", "##g"]
    [found] = Explainer(predictor_of(model, words=pieces)).explain(["㎏"])
    [part] = terminal.segments(found)
    assert (part.text, part.attribution) == ("㎏", pytest.approx(found.sum))


def test_an_empty_text_is_explained_by_its_padding(explainer):
    [found] = explainer.explain([""])
    assert [token.token for token in found.tokens] == ["[PAD]"] and found.complete
    assert terminal.plain(found) == "" and "(an empty text)" in page.render([("x", found)])


def test_what_cannot_be_explained():
    tokens = keras.Input((None,), dtype="int32")
    mean = keras.ops.mean(keras.ops.cast(tokens, "float32"), axis=1, keepdims=True)
    with pytest.raises(BadInput, match="0 TokenEmbedding layers; expected 1"):
        Explainer(predictor_of(keras.Model(tokens, keras.layers.Dense(1)(mean))))
    model = network()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(NonFinite, match="text 0"):
        Explainer(predictor_of(model)).explain(["good"])


class Reader(html.parser.HTMLParser):
    """What a browser would make of the page."""

    VOID = ("meta",)

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.text = self.cut = self.title = ""
        self.cells = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append(dict(attributes))
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes).get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if ("p", "text") in self.open:
            self.text += data
            self.cut += data if self.open[-1] == ("span", "cut") else ""
        elif self.open and self.open[-1][0] in ("th", "td"):
            self.cells.append(data)
        elif self.open and self.open[-1][0] == "title":
            self.title += data


def test_the_page_says_what_was_found_and_nothing_else_is_run(explainer):
    text = '<script>alert("好 & bad")</script>\n good\x00'
    [found] = explainer.explain([text])
    source = page.render([("<b>&.csv[0]", found)])
    assert source.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in source
    read = Reader(source)
    assert read.text == text.replace("\x00", "�")
    assert not {"script", "link", "img", "iframe", "b"} & set(read.tags) and "&quot;" in source
    assert not any(name in {"src", "href"} or name.startswith("on") for each in read.attributes for name in each)
    assert "url(" not in source and "http" not in source and "color-scheme: light dark" in source
    assert read.title == "1 explained prediction" and "&lt;b&gt;&amp;.csv[0]" in source
    assert dict(zip(read.cells[::2], read.cells[1::2])) == {
        name: f"{value:.4f}" for name, value in zip(found.classes, found.probabilities)
    }
    titled = [float(each["title"]) for each in read.attributes if "title" in each]
    shares = [part.attribution for part in terminal.segments(found) if part.attribution is not None]
    assert titled == pytest.approx(shares, abs=1e-4)
    assert all(
        ("toward" in each["class"]) == (float(each["title"]) >= 0) for each in read.attributes if "title" in each
    )
    strengths = [float(each["style"].split()[1]) for each in read.attributes if "title" in each]
    assert max(strengths) == pytest.approx(0.6) and min(strengths) >= 0


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("explain") / "run", network(), ["no", "yes"], {"text_column": "t"}, "")
    about = {"input": "text", "max_length": 40, "cut": "head", "task": "classification", "classes": ["no", "yes"]}
    (folder / "model.json").write_text(json.dumps(about))
    WORDS.save(folder / "tokenizer.json")
    return folder


def test_the_command_explains(workdir, tmp_path, capsys, monkeypatch, explainer):
    (tmp_path / "a.csv").write_text("t\ngood film\n差\n", encoding="utf8")
    target = tmp_path / "out.html"
    command = ["predict", str(workdir), "--text=bad <b>", str(tmp_path / "a.csv"), f"--html={target}"]
    assert main.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    found = explainer.explain(["bad <b>", "good film", "差"])
    assert [line.split("\t")[0] for line in lines[::3]] == [
        "bad <b>",
        *(f"{tmp_path / 'a.csv'}[{i}]" for i in range(2)),
    ]
    assert lines[1::3] == [f"  {terminal.plain(one)}" for one in found]
    assert lines[2::3] == [f"  {terminal.account(one)}" for one in found]
    shares = [token.attribution for token in found[1].read]
    assert lines[4] == f"  good:{shares[0]:+.3f} film:{shares[1]:+.3f}"
    read = Reader(target.read_text(encoding="utf8"))
    assert read.text == "bad <b>good film差" and read.title == "3 explained predictions"
    assert stat.S_IMODE(target.stat().st_mode) & 0o444 and len(list(tmp_path.iterdir())) == 2
    assert main.main([*command[:3], "--explain", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["tokens"] == [token.token for token in found[0].tokens] and answer["spans"][0] == [0, 3]
    assert sum(answer["attributions"]) == pytest.approx(answer["completeness"]["sum"])


@pytest.mark.parametrize("plain", [False, True])
def test_colours_are_for_terminals(workdir, capsys, monkeypatch, plain):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1" if plain else "")
    assert main.main(["predict", str(workdir), "--text=good bad", "--explain"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert ("good:" in line and "\x1b" not in line) if plain else ("\x1b[3" in line and line.endswith("\x1b[0m"))


def test_a_page_that_cannot_be_written(workdir, tmp_path, capsys):
    (tmp_path / "folder.html").mkdir()
    cases = {
        tmp_path / "a.csv": "expected a file that ends in .html",
        tmp_path / "missing" / "a.html": "is not a folder; make it",
        tmp_path / "folder.html": "cannot be written",
    }
    for target, says in cases.items():
        assert main.main(["predict", str(workdir), "--text=good", f"--html={target}"]) == 2
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1 and str(target) in err[0] and says in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]
    assert main.main(["predict", str(workdir), "-", "--html=a.html"]) == 2
    assert "expected no - beside it" in capsys.readouterr().err
