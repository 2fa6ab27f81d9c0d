"""Generated texts: with a cache what they are without, by the rules that were asked for, whole and as they come."""

import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import language_models
from tests.helpers.language_models import NETWORKS, plain, speaker
from zoo.cli import main
from zoo.errors import BadInput, NonFinite
from zoo.metrics.logits import log_softmax
from zoo.predict.language_models import language_model, sampling
from zoo.predict.language_models.sampling import SamplingConfig

ZOO = [sys.executable, "-m", "zoo.cli"]


def some_ids(model, rows, time, seed=0):
    return np.random.default_rng(seed).integers(1, model.tokenizer.vocabulary_size, (rows, time)).astype(np.int32)


@pytest.mark.parametrize("kind", NETWORKS)
def test_with_a_cache_each_prefix_has_the_logits_that_it_has_without(kind):
    model = speaker(kind, context=44)
    ids = some_ids(model, 3, 44)
    wanted = plain(model, ids)
    # From one token, from fewer than a chunk's, and from more.
    for first in (1, 7, 40):
        reader = model._decoders[True]
        reading = reader.prefill(ids[:, :first], 44 - first)
        for place in range(first, 44):
            np.testing.assert_allclose(reading.logits, wanted[:, place - 1], atol=1e-5)
            reading = reader.step(reading, np.arange(3), ids[:, place])
        np.testing.assert_allclose(reading.logits, wanted[:, 43], atol=1e-5)
    assert np.abs(wanted).max() > 1, "numbers in which a fault would show"


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("cache", [True, False])
def test_rows_may_change_places(kind, cache):
    model = speaker(kind)
    ids, reader = some_ids(model, 3, 9), model._decoders[cache]
    reading = reader.prefill(ids[:, :5], 4)
    order = [np.array([2, 0, 0]), np.array([1, 1, 2]), np.arange(3)]
    history = ids[:, :5]
    for place, parents in enumerate(order, 5):
        reading = reader.step(reading, parents, ids[:, place])
        history = np.concatenate([history[parents], ids[:, place : place + 1]], axis=1)
        np.testing.assert_array_equal(reading.ids, history)
        np.testing.assert_allclose(reading.logits, plain(model, history)[:, -1], atol=1e-5)


def windowed(model, ids):
    """Logits of the next token, by the rule that is promised of a full context, and where its window begins."""
    start, context = 0, model.context
    for total in range(1, len(ids) + 1):
        if context and total - start > context:
            start = total - context // 2
    return plain(model, np.array([ids[start:]]))[0, -1], start


@pytest.mark.parametrize("kind", NETWORKS)
def test_greedy_by_hand_past_a_full_context(kind):
    """A window of 12 that slides by half; of an LSTM the state goes on."""
    model = speaker(kind)
    ids, starts = model.ids("abc").tolist(), set()
    for _ in range(40):
        logits, start = windowed(model, ids)
        starts.add(start)
        logits[[not piece for piece in model.tokenizer.bytes_of_ids()] + [True]] = -np.inf
        ids.append(int(logits.argmax()))
    assert len(starts) == (1 if kind == "lstm" else 6)
    for cache in (True, False):
        [found] = model.generate("abc", temperature=0.0, tokens=40, cache=cache)
        assert found.ids == tuple(ids[3:]) and found.text == model.tokenizer.decode(ids[3:])
        assert found.stopped is None and set(found.text) <= set("abc")


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_prompt_that_does_not_fit_in(kind):
    """Half a context of it is read; the generator says the same with and without a cache."""
    model = speaker(kind)
    prompt = "abcabbcaacbbabcacb"
    reading = model._decoders[True].prefill(model.ids(prompt)[None], 1)
    logits, start = plain(model, model.ids(prompt[12:] if model.context else prompt)[None])[0, -1], reading.start
    assert start == (12 if model.context else 0)
    np.testing.assert_allclose(reading.logits[0], logits, atol=1e-5)
    found = [model.generate(prompt, tokens=9, cache=cache)[0] for cache in (True, False)]
    assert found[0].ids == found[1].ids


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.6, "repetition_penalty": 1.4}, {"beams": 3, "count": 3}],
)
def test_with_a_cache_the_text_is_the_same(kind, settings):
    model = speaker(kind)
    cached, uncached = (model.generate("ab", tokens=30, cache=cache, **settings) for cache in (True, False))
    assert [one.ids for one in cached] == [one.ids for one in uncached]
    for one, other in zip(cached, uncached):
        assert one.text == other.text and one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


def test_the_filters_are_applied_in_their_order(monkeypatch):
    """Each token is drawn from the probabilities that the filters give of the model's own logits."""
    model, numbers = speaker(), np.random.default_rng([5, 0])
    settings = {"temperature": 0.8, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.3}
    [found] = model.generate("ab", tokens=8, seed=5, **settings)
    ids, total = model.ids("ab").tolist(), 0.0
    for chosen in found.ids:
        logits = plain(model, np.array([ids]))[0, -1]
        left = sampling.penalise_repetition(logits, ids, settings["repetition_penalty"])
        left[[not piece for piece in model.tokenizer.bytes_of_ids()] + [True]] = -np.inf
        chances = sampling.probabilities(left, settings["temperature"], settings["top_k"], settings["top_p"])
        assert chosen == sampling.draw(chances, numbers.random())
        total += log_softmax(logits)[chosen]
        ids.append(chosen)
    assert found.log_probability == pytest.approx(total, abs=1e-4)


def test_seeds():
    model = speaker("lstm")
    three = [one.text for one in model.generate("a", tokens=30, seed=1, count=3)]
    assert len(set(three)) == 3
    assert [one.text for one in model.generate("a", tokens=30, seed=1, count=2)] == three[:2]
    assert model.generate("a", tokens=30, seed=2)[0].text not in three


@pytest.mark.parametrize("kind", NETWORKS)
def test_enough_beams_find_the_most_probable_of_all_texts(kind):
    model = speaker(kind)
    texts = ["".join(letters) for letters in itertools.product("abc", repeat=4)]
    scores = [sum(one.log_probabilities[-4:]) for one in model.score([f"ab{text}" for text in texts])]
    best = np.argsort(scores)[::-1]
    found = model.generate("ab", beams=27, count=5, tokens=4)
    assert [one.text for one in found] == [texts[i] for i in best[:5]]
    assert [one.log_probability for one in found] == pytest.approx([scores[i] for i in best[:5]], abs=1e-4)
    # One beam is greedy.
    assert model.generate("ab", beams=1, tokens=9)[0].ids == model.generate("ab", temperature=0.0, tokens=9)[0].ids


def test_beams_and_stop_strings():
    """Of all texts that end with a stop string or have all tokens, the best by log-probability per token."""
    model, candidates = speaker("pre-norm"), set()
    for letters in itertools.product("abc", repeat=4):
        text = "".join(letters)
        end = text.find("ca")
        candidates.add(text if end < 0 else text[: end + 2])
    ordered = sorted(candidates)
    scores = model.score([f"ab{text}" for text in ordered])
    means = [np.mean(one.log_probabilities[1:]) for one in scores]
    # With more beams than texts, none is given up.
    found = model.generate("ab", beams=90, count=3, tokens=4, stop=["ca"])
    best = [ordered[i] for i in np.argsort(means)[::-1][:3]]
    assert [one.text + (one.stopped or "") for one in found] == best


@pytest.mark.parametrize("tokens", ["byte", "byte_bpe"])
def test_stop_strings_across_tokens(tokens):
    model = speaker("lstm", "aé好" * 20, tokens)
    [whole] = model.generate("a", tokens=80, seed=3)
    assert len(whole.ids) == 80 and whole.stopped is None
    for place in (0, 9, 30):
        stop = whole.text[place : place + 4]
        stream = model.stream("a", SamplingConfig(tokens=80, seed=3, stop=[stop, "never"]))
        pieces = []
        while True:
            try:
                pieces.append(next(stream))
            except StopIteration as end:
                found = end.value
                break
        assert found.text == whole.text[: whole.text.find(stop)] == "".join(pieces)
        assert found.stopped == stop and found.ids == whole.ids[: len(found.ids)] and len(found.ids) < 80


def test_text_comes_as_it_is_made():
    model = speaker("lstm", "aé好" * 20, "byte")
    settings = SamplingConfig(tokens=60, seed=3)
    pieces = list(model.stream("a", settings))
    assert "".join(pieces) == model.generate("a", tokens=60, seed=3)[0].text
    assert len(pieces) > 20 and all(pieces)


def test_special_tokens_and_padding_are_never_generated():
    model = speaker("lstm")
    [found] = model.generate("a", tokens=300, temperature=50.0)
    assert set(found.text) == set("abc") and len(found.text) == 300


def test_what_is_refused():
    model = speaker()
    for prompt, said in (
        ("", "has 0 tokens: expected one token or more"),
        ("abxcz", "'x' at character 2 (and 1 more)"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            model.generate(prompt)
    with pytest.raises(BadInput, match="half a surrogate pair"):
        model.generate("a\ud800")
    with pytest.raises(BadInput, match="top_p is 2"):
        model.generate("a", top_p=2)
    changing = language_model.LanguageModel(model.model, speaker(text="ab " * 9, tokens="word").tokenizer)
    with pytest.raises(BadInput, match="changes texts"):
        changing.generate("ab")


def test_a_model_that_diverged_says_so():
    model = language_models.speaker.__wrapped__("lstm")
    model.model.set_weights([np.full_like(weight, np.nan) for weight in model.model.get_weights()])
    with pytest.raises(NonFinite, match="expected a trained model"):
        model.generate("a")
    with pytest.raises(NonFinite, match="for text 0 is not finite"):
        model.score(["ab", "abc"])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """What a finished run of experiments.language_model leaves, without the run."""
    folder, model = tmp_path_factory.mktemp("run"), speaker("pre-norm", "abc\n" * 9, "byte")
    model.model.save(folder / "model.keras")
    about = {"input": "text", "task": "language_model", "context": 12, "network": "transformer"}
    (folder / "model.json").write_text(json.dumps(about))
    model.tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


def test_command(workdir, say):
    model = language_model.load(workdir)
    texts = [one.text for one in model.generate("ab", tokens=20, count=2, seed=4)]
    flags = ["generate", workdir, "--prompt=ab", "--tokens=20", "--seed=4"]
    assert say(*flags, "--count=2") == (0, f"ab{texts[0]}\n---\nab{texts[1]}\n", [])
    code, out, _ = say(*flags, "--json", "--no_cache")
    answer = json.loads(out)
    assert (code, answer["text"], answer["tokens"], answer["stopped"]) == (0, texts[0], 20, None)
    assert answer["prompt"] == "ab" and answer["number"] == 0 and answer["tokens_per_second"] > 0
    best = model.generate("ab", tokens=5, beams=4, count=2)
    code, out, _ = say("generate", workdir, "--prompt=ab", "--tokens=5", "--beams=4", "--count=2", "--json")
    assert (code, [json.loads(line)["text"] for line in out.splitlines()]) == (0, [one.text for one in best])
    stop = texts[0][3:5]
    code, out, _ = say(*flags, f"--stop={stop}", "--stop=never")
    assert (code, out) == (0, f"ab{texts[0][: texts[0].find(stop)]}\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prompt="], "the text '' has 0 tokens: expected one token or more"),
        (["--prompt=a", "--top_p=1.5"], "--top_p is 1.5: expected a probability, more than 0 and at most 1"),
        (["--prompt=a", "--beams=2", "--temperature=1"], "--beams is 2 and --temperature 1.0"),
    ],
)
def test_command_refuses_in_one_line(workdir, flags, said, say):
    code, out, err = say("generate", workdir, *flags)
    assert (code, out, len(err)) == (2, "", 1) and said in err[0]


def test_a_reader_sees_the_text_as_it_is_made_and_may_leave(workdir):
    command = [*ZOO, "generate", str(workdir), "--prompt=ab", "--tokens=1000000"]
    # A machine that sets it for all of Python would hide a missing flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.read(12).startswith(b"ab")
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 128 + 13
    assert b"zoo:" not in errors and b"Traceback" not in errors
