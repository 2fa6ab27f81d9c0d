"""Learning from a text on the way: what is scored when, what a step does, guarantees; and the command."""

import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from experiments import language_model
from experiments.language_model import LanguageModelConfig
from tests.helpers.language_models import speaker
from zoo.cli import main
from zoo.errors import BadInput, NonFinite
from zoo.models import kv_cache
from zoo.predict.language_models import language_model as language
from zoo.predict.language_models.context_retrieval import ContextRetrieval
from zoo.predict.language_models.dynamic_evaluation import DynamicConfig, DynamicEvaluation, Evaluated, EvaluatedSegment
from zoo.predict.language_models.dynamic_optimizer import DynamicOptimizer
from zoo.predict.language_models.fixed_share import FixedShareMixture
from zoo.predict.predictors.cloning import digest

TEXT = "abcbacbbacabcabcaacbcbbacab" * 4
# Neither the context nor a divisor of the text's length.
SETTINGS = DynamicConfig(segment=10, learning_rate=0.3, clip_norm=0.7, longest_context=0)
RETRIEVAL = 6


@pytest.fixture(scope="module", params=["pre-norm", "lstm"])
def made(request):
    """A model of each network, and its dynamic evaluation, compiled once."""
    model = speaker(request.param)
    return model, DynamicEvaluation(model, SETTINGS)


def evaluated(made, text=TEXT, **changes):
    model, evaluation = made
    evaluation.settings = SETTINGS._replace(**changes)
    return evaluation.evaluate(model.ids(text))


def test_without_learning_it_is_the_static_score(made):
    model, _ = made
    [score] = model.score([TEXT])
    for changes in ({"learning_rate": 0.0}, {"steps": 0}, {"learning_rate": 0.0, "steps": 2, "patience": 1}):
        found = evaluated(made, **changes)
        np.testing.assert_array_equal(found.dynamic, found.static)
        np.testing.assert_allclose(found.static, score.log_probabilities, atol=1e-5)
        np.testing.assert_allclose(found.mixed, found.static, atol=1e-12)


def test_the_model_stays_as_it_is_and_each_text_begins_with_it(made):
    model, _ = made
    before = digest(model.model)
    first, again = evaluated(made), evaluated(made)
    assert digest(model.model) == before
    for one, other in zip(first[:3], again[:3]):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first.dynamic, first.static)


@pytest.mark.parametrize("place", [1, 13, 30, 57])
def test_what_comes_later_changes_no_score(made, place):
    """Bit for bit, with updates on; whether it is another text or none."""
    whole = evaluated(made)
    for other in (TEXT[:place] + TEXT[place:].translate(str.maketrans("abc", "cab")), TEXT[: place + 1]):
        found = evaluated(made, other)
        # Token `place` is the first that differs: all before it are predicted alike.
        for one, changed in zip(whole[:3], found[:3]):
            np.testing.assert_array_equal(changed[: place - 1], one[: place - 1])
    later = evaluated(made, TEXT[:place] + "aaaaaaa" + TEXT[place + 7 :])
    assert not np.array_equal(later.dynamic[place - 1 :], whole.dynamic[place - 1 :])


def test_the_trace_adds_up(made):
    found = evaluated(made)
    place = 1
    for one in found.trace:
        part = slice(place - 1, place - 1 + one.tokens)
        assert one.first == place
        for name in ("static", "dynamic", "mixed"):
            assert getattr(one, name) == pytest.approx(getattr(found, name)[part].sum(), abs=1e-9)
        place += one.tokens
    assert place == len(TEXT)
    # In the segment that was scored, the copy has not learned from it yet; and nothing follows the last.
    assert found.trace[0].static == found.trace[0].dynamic
    assert found.trace[0].loss == pytest.approx(-found.trace[0].static / found.trace[0].tokens, abs=1e-5)
    assert found.trace[-1].loss is None and all(one.loss for one in found.trace[:-1])


def test_a_step_is_gradient_descent_on_the_segment(made):
    """The second segment's scores, by a gradient of the plain model and a state carried on."""
    model, _ = made
    found, ids = evaluated(made), model.ids(TEXT)
    size, lstm = found.trace[0].tokens, model.context is None
    copy = keras.models.clone_model(model.model)
    copy.set_weights(model.model.get_weights())
    network = kv_cache.network(copy)

    def logs(logits, wanted):
        return tf.gather(tf.nn.log_softmax(logits), wanted, axis=2, batch_dims=2)

    with tf.GradientTape() as tape:
        values = logs(network.forward(tf.constant(ids[None, :size])), ids[None, 1 : size + 1])
        loss = -tf.reduce_mean(values)
    np.testing.assert_allclose(values[0], found.dynamic[:size], atol=1e-5)
    _, state = network.read(tf.constant(ids[None, :size]), network.empty(1, 12), tf.constant(0), tf.constant(size))
    gradients = [tf.convert_to_tensor(one) for one in tape.gradient(loss, copy.trainable_variables)]
    norm = float(tf.linalg.global_norm(gradients))
    assert found.trace[0].gradient_norm == pytest.approx(norm, rel=1e-4) and norm > 0.7
    for variable, gradient in zip(copy.trainable_variables, gradients):
        variable.assign_sub(0.3 * 0.7 / norm * gradient)
    if lstm:
        # The state is that of the weights before.
        read, wanted = ids[None, size : 2 * size], ids[None, size + 1 : 2 * size + 1]
        outputs, _ = network.read(tf.constant(read), state, tf.constant(0), tf.constant(size))
        expected = logs(network.logits(outputs), wanted)[0]
    else:
        # A window that begins half a context, six tokens, further.
        expected = logs(network.forward(tf.constant(ids[None, 6:18])), ids[None, 7:19])[0, -6:]
    np.testing.assert_allclose(found.dynamic[size : size + len(expected)], expected, atol=2e-5)
    assert np.abs(found.dynamic[size : size + len(expected)] - found.static[size : size + len(expected)]).max() > 1e-3


def test_it_learns_what_repeats(made):
    found = evaluated(made, "abacabacca" * 30)
    gain, low, high = found.gain()
    assert 0.1 < low < gain < high
    assert found.dynamic[-50:].mean() > found.static[-50:].mean() + 0.3
    assert found.trace[-1].weight > 0.9


@pytest.mark.parametrize("place", [2, 13, 57])
def test_what_comes_later_changes_no_retrieved_score(made, place):
    """Bit for bit, with retrieval on the way."""
    ways = ("static", "dynamic", "adapted", "retrieved", "mixed")
    whole = evaluated(made, longest_context=RETRIEVAL)
    for other in (TEXT[:place] + TEXT[place:].translate(str.maketrans("abc", "cab")), TEXT[: place + 1]):
        found = evaluated(made, other, longest_context=RETRIEVAL)
        for way in ways:
            np.testing.assert_array_equal(getattr(found, way)[: place - 1], getattr(whole, way)[: place - 1])


def test_retrieval_begins_from_the_mixture_without_it(made):
    plain, found = evaluated(made), evaluated(made, longest_context=RETRIEVAL)
    assert plain.retrieved is None and plain.trace[0].retrieval_weight is None
    np.testing.assert_array_equal(plain.adapted, plain.mixed)
    np.testing.assert_array_equal(found.adapted, plain.mixed)
    retrieval = ContextRetrieval(made[0].ids(TEXT), RETRIEVAL)
    np.testing.assert_allclose(found.retrieved, retrieval.log_probabilities(1, plain.mixed.tolist()), atol=1e-12)
    mixture = FixedShareMixture(3)
    for place, mixed in enumerate(found.mixed):
        expected = mixture.add(found.static[place], found.dynamic[place], found.retrieved[place])
        assert mixed == pytest.approx(expected, abs=1e-12)
    assert found.trace[-1].retrieval_weight == pytest.approx(mixture.weights[2])
    assert sum(one.retrieved for one in found.trace) == pytest.approx(found.retrieved.sum())
    repeated = "abacabacca" * 30
    with_retrieval, without = (evaluated(made, repeated, longest_context=longest) for longest in (RETRIEVAL, 0))
    assert with_retrieval.mixed.sum() > without.mixed.sum() + 30


@pytest.mark.parametrize("rate", [0.3, 1e38])
def test_with_retrieval_never_more_than_a_bit_worse(made, rate):
    found = evaluated(made, TEXT + "cab" * 5, learning_rate=rate, longest_context=RETRIEVAL)
    lost = -np.cumsum(found.mixed)
    assert np.isfinite(lost).all() and (lost <= -np.cumsum(found.static) + math.log(2) + 1e-9).all()
    n = np.arange(1, len(lost) + 1)
    for way in ("dynamic", "retrieved"):
        assert (lost <= -np.cumsum(getattr(found, way)) + np.log(6 * n) + 1e-9).all()


@pytest.mark.parametrize("rate", [0.3, 30.0, 1e38])
@pytest.mark.parametrize("patience", [0, 2])
def test_never_more_than_a_bit_worse(made, rate, patience):
    """At no place of the text, however badly the copy learns."""
    found = evaluated(made, TEXT + "cab" * 5, learning_rate=rate, patience=patience)
    assert np.isfinite(found.mixed).all()
    static, dynamic, mixed = (-np.cumsum(values) for values in found[:3])
    assert (mixed <= static + math.log(2) + 1e-9).all()
    assert (mixed <= dynamic + np.log(4 * np.arange(1, len(mixed) + 1)) + 1e-9).all()
    if rate > 1:
        assert dynamic[-1] > static[-1] + 1


def far(made):
    """How far the copy's weights are from the model's."""
    model, evaluation = made
    pairs = zip(model.model.get_weights(), evaluation._engine.model.get_weights())
    return math.sqrt(sum(((one - other) ** 2).sum() for one, other in pairs))


def test_it_starts_again_where_it_was_worse(made):
    found, recent = evaluated(made, learning_rate=5.0, patience=3), []
    for one in found.trace:
        recent.append(one.dynamic - one.static)
        assert bool(one.reset) == (len(recent) >= 3 and sum(recent[-3:]) < 0)
        recent = [] if one.reset else recent
    resets = [i for i, one in enumerate(found.trace) if one.reset]
    assert resets
    # What was learned since then, in clipped steps, and nothing of what was learned before.
    steps = len(found.trace) - 1 - resets[-1]
    assert far(made) <= steps * 5.0 * 0.7 + 1e-3
    free, first = evaluated(made, learning_rate=5.0), found.trace[resets[0]]
    assert not any(one.reset for one in free.trace)
    until = first.first - 1 + first.tokens
    np.testing.assert_array_equal(found.dynamic[:until], free.dynamic[:until])
    assert not np.array_equal(found.dynamic[until:], free.dynamic[until:])


def test_a_copy_that_overflows_starts_again(made):
    found = evaluated(made, learning_rate=1e38)
    lost = [one for one in found.trace if one.dynamic == -math.inf]
    assert lost and all("finite" in one.reset for one in lost)
    # Nor does this say anything of later tokens.
    for place in (25, 50):
        part = evaluated(made, TEXT[:place], learning_rate=1e38)
        for one, whole in zip(part[:3], found[:3]):
            np.testing.assert_array_equal(one, whole[: place - 1])


def test_a_model_that_is_not_finite():
    model = speaker("lstm", "abcd")
    kept = model.model.get_weights()
    model.model.set_weights([weight * np.nan for weight in kept])
    with pytest.raises(NonFinite, match="after token 0 is not finite"):
        DynamicEvaluation(model, SETTINGS).evaluate(model.ids("abcabc"))
    model.model.set_weights(kept)


def test_bad_settings():
    model = speaker("pre-norm")
    cases = {"segment": 0, "learning_rate": -1.0, "optimizer": "adam", "decay": 2.0, "steps": -1, "patience": -1}
    for name, value in cases.items():
        with pytest.raises(BadInput, match=f"--{name} is {value!r}: expected"):
            DynamicEvaluation(model, DynamicConfig(**{name: value}))
    with pytest.raises(BadInput, match="--stride is 13"):
        DynamicEvaluation(model, DynamicConfig(stride=13))
    with pytest.raises(BadInput, match="--stride is 5: an LSTM reads a text whole"):
        DynamicEvaluation(speaker("lstm"), DynamicConfig(stride=5))


def test_steps_by_the_size_of_gradients():
    """Equations 5 to 8 of the paper, in NumPy."""
    draw = np.random.default_rng(0)
    weights = [keras.Variable(draw.normal(size=shape), dtype="float32") for shape in ((3, 2), (4,))]
    source = [weight.numpy() for weight in weights]
    seen = [[draw.normal(size=weight.shape) * scale for weight, scale in zip(weights, (1, 0.01))] for _ in range(5)]
    optimizer = DynamicOptimizer(0.1, 0.3, normalised=True)
    optimizer.build(weights)
    optimizer.measure_gradients()
    for gradients in seen:
        optimizer.apply([tf.constant(one, tf.float32) for one in gradients], weights)
    optimizer.end_measurement(len(seen))
    for weight, begin in zip(weights, source):
        np.testing.assert_array_equal(weight.numpy(), begin)
    roots = [np.sqrt(np.mean([one[i] ** 2 for one in seen], axis=0)) for i in range(2)]
    mean, expected = np.concatenate([root.ravel() for root in roots]).mean(), [*source]
    for gradients in seen[:3]:
        optimizer.apply([tf.constant(one, tf.float32) for one in gradients], weights)
        for i in range(2):
            back = np.minimum(roots[i] / mean, 1 / 0.3) * 0.3
            step = -0.1 * gradients[i] / (roots[i] + 2e-5) + back * (source[i] - expected[i])
            expected[i] = expected[i] + step
    for weight, value in zip(weights, expected):
        np.testing.assert_allclose(weight.numpy(), value, rtol=1e-4, atol=1e-5)


def test_rms_measures_first():
    model = speaker("lstm")
    evaluation = DynamicEvaluation(model, SETTINGS._replace(optimizer="rms", learning_rate=0.0, decay=0.1))
    ids = model.ids(TEXT)
    with pytest.raises(BadInput, match="call measure"):
        evaluation.evaluate(ids)
    with pytest.raises(BadInput, match="expected more than a segment"):
        evaluation.measure_gradients(ids[:5])
    evaluation.measure_gradients(ids)
    still = evaluation.evaluate(ids)
    np.testing.assert_array_equal(still.dynamic, still.static)
    evaluation.settings = evaluation.settings._replace(learning_rate=0.003)
    assert evaluation.evaluate(model.ids("abacabacca" * 30)).gain()[1] > 0


def by_paths(first, second):
    """The mixture by its definition: over the first alone, and over all paths between the two."""
    n, total = len(first), math.exp(sum(first)) / 2
    for path in itertools.product((0, 1), repeat=n):
        prior = 1 / 4
        for t, (one, other) in enumerate(itertools.pairwise(path), 1):
            prior *= 1 / (t + 1) if one != other else t / (t + 1)
        total += prior * math.exp(sum((first, second)[who][t] for t, who in enumerate(path)))
    return math.log(total)


def test_the_mixture_is_one_of_all_ways_to_switch():
    draw = np.random.default_rng(0)
    first, second = np.log(draw.uniform(0.01, 1, (2, 8)))
    mixture = FixedShareMixture()
    told = [mixture.add(*both) for both in zip(first, second)]
    for n in range(1, 9):
        assert sum(told[:n]) == pytest.approx(by_paths(first[:n], second[:n]), abs=1e-12)


def test_the_mixture_keeps_its_guarantees():
    """At every place, of one good model after the other, and of a second that is out of bounds for a while."""
    draw = np.random.default_rng(1)
    good, bad = -draw.uniform(0, 1, 3000), -draw.uniform(1, 9, 3000)
    turns = np.arange(3000) // 750 % 2 == 0
    gone = np.where(np.arange(3000) % 100 < 5, -np.inf, good)
    for first, second in ((good, bad), (bad, good), (bad, gone), (good[::-1] * 0, bad * 50)):
        for one, other in ((first, second), (np.where(turns, first, bad), np.where(turns, bad, second))):
            mixture, n = FixedShareMixture(), np.arange(1, 3001)
            lost = -np.cumsum([mixture.add(*both) for both in zip(one.tolist(), other.tolist())])
            assert np.isfinite(lost).all()
            assert (lost <= -np.cumsum(one) + math.log(2) + 1e-9).all()
            assert (lost <= -np.cumsum(other) + np.log(4 * n) + 1e-9).all()
            by_turns = -np.cumsum(np.where(turns, one, other))
            assert (lost <= by_turns + np.log(4 * n) + 3 * np.log(n) + 1e-9).all()
    equal = FixedShareMixture()
    assert equal.add(-1.0, -1.0) == pytest.approx(-1.0) and equal.second == pytest.approx(0.25)


def test_the_gain_and_its_interval():
    gains = np.random.default_rng(0).normal(0.2, 1, 400)
    trace = [
        EvaluatedSegment(1 + 5 * i, 5, -9.0, -9.0, -9.0 + gain, 0.5, "", 1.0, 1.0, 0.0) for i, gain in enumerate(gains)
    ]
    value, low, high = Evaluated(*np.zeros((3, 2000)), trace).gain()
    assert value == pytest.approx(gains.mean() / 5)
    # The normal approximation, with equal segments.
    assert high - low == pytest.approx(2 * 1.96 * gains.std() / math.sqrt(400) / 5, rel=0.1)


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def run(request, tmp_path_factory):
    """A trained run of each network, and a file of another text."""
    folder = tmp_path_factory.mktemp(request.param)
    known, new = "We are accounted poor citizens, the patricians good.\n" * 40, "a poor price; a poor prince. " * 12
    (folder / "mine.txt").write_text(new[:60] + known, encoding="utf8")
    (folder / "new.txt").write_text(new, encoding="utf8")
    config = LanguageModelConfig(
        train_file=str(folder / "mine.txt"), network=request.param, context=12, layers=1, width=16, heads=2, steps=40,
        warmup_steps=5, learning_rate=0.01, compile="none", recipe="plain",
    )  # fmt: skip
    zoo.run(language_model.build, config, folder / "run")
    return folder


def said(capsys, *argv):
    code = main.main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_command(run, capsys):
    capsys.readouterr()
    given = ["--dynamic", "--segment=12", "--learning_rate=0.2", "--patience=5"]
    code, out, err = said(capsys, "score", run / "run", run / "new.txt", *given, "--json")
    [answer] = map(json.loads, out)
    model, text = language.load(run / "run"), (run / "new.txt").read_text()
    settings = DynamicConfig(segment=12, learning_rate=0.2, patience=5)
    found = DynamicEvaluation(model, settings).evaluate(model.ids(text))
    assert (code, err, answer["file"], answer["predicted"]) == (0, [], str(run / "new.txt"), len(text) - 1)
    for name in ("static", "dynamic", "retrieved", "mixed"):
        total = getattr(found, name).sum()
        assert answer[name]["log_probability"] == pytest.approx(total)
        assert answer[name]["bits_per_byte"] == pytest.approx(-total / math.log(2) / (len(text) - 1))
        assert answer[name]["perplexity"] == pytest.approx(math.exp(-total / (len(text) - 1)))
    gain = answer["gain"]
    assert 0 < gain["nats_per_token_low"] < gain["nats_per_token"] < gain["nats_per_token_high"]
    assert gain["bits_per_byte"] == pytest.approx(answer["static"]["bits_per_byte"] - answer["mixed"]["bits_per_byte"])
    assert [one["mixed"] for one in answer["trace"]] == [one.mixed for one in found.trace]
    assert answer["settings"]["segment"] == 12 and "loss" not in answer["trace"][-1]
    code, out, err = said(capsys, "score", run / "run", run / "new.txt", *given)
    ways = ["static", "dynamic", "retrieved", "mixed", "gain"]
    assert (code, err, [line.split("\t")[1] for line in out]) == (0, [], ways)
    assert f"bits per byte {answer['mixed']['bits_per_byte']:.4f}" in out[3]
    assert f"{len(found.trace)} segments, " in out[4]


def test_command_with_neighbours(run, capsys):
    """A file of the same text; a mistake in it is said before any text is scored."""
    given = ["score", run / "run", run / "new.txt", "--dynamic", "--segment=12", "--json"]
    answers = []
    for more in (["--longest_context=0"], [], [f"--neighbours={run / 'mine.txt'}", f"--neighbours={run / 'new.txt'}"]):
        code, out, err = said(capsys, *given, *more)
        assert (code, err) == (0, [])
        answers.append(json.loads(out[0]))
    assert "retrieved" not in answers[0] and "retrieval_weight" not in answers[0]["trace"][0]
    without, plain, neighbours = (one["mixed"]["bits_per_byte"] for one in answers)
    assert neighbours < plain - 0.1 and plain < without - 0.1
    assert answers[2]["settings"]["longest_context"] == 16 and answers[2]["trace"][-1]["retrieval_weight"] > 0.5
    code, out, err = said(capsys, *given, f"--neighbours={run / 'missing.txt'}")
    assert (code, out, len(err)) == (2, [], 1) and "missing.txt cannot be read" in err[0]


def test_command_by_the_size_of_gradients(run, capsys):
    text = "--text=" + "a poor price; " * 9
    given = ["--dynamic", "--optimizer=rms", "--segment=12", "--learning_rate=0.0005", "--decay=0.01", "--json"]
    code, out, err = said(capsys, "score", run / "run", text, "--text=a", *given)
    assert (code, len(out), len(err)) == (2, 1, 1) and "text 2: the text 'a' has 1 tokens" in err[0]
    answer = json.loads(out[0])
    assert answer["settings"]["optimizer"] == "rms"
    assert answer["dynamic"]["log_probability"] > answer["static"]["log_probability"]


def test_bad_options(run, capsys):
    (run / "empty.txt").write_text("", encoding="utf8")
    cases = {
        ("--dynamic", "--neighbours=new.csv", "--text=We"): "--neighbours is new.csv: contexts are looked up in a text",
        (
            "--dynamic",
            f"--neighbours={run / 'empty.txt'}",
            "--text=We",
        ): "empty.txt is empty: expected text",
        ("--neighbours=new.txt", "--text=We"): "--neighbours is for learning from the text: add --dynamic",
        ("--dynamic", "--neighbours=new.txt", "--longest_context=0", "--text=We"): "nothing is looked up",
        ("--dynamic", "--longest_context=-1", "--text=We"): "--longest_context is -1: expected 0 to 16",
        ("--dynamic", "--longest_context=17", "--text=We"): "--longest_context is 17: expected 0 to 16",
        ("--segment=5", "--text=We"): "--segment is for learning from the text: add --dynamic",
        ("--dynamic", run / "new.csv"): "--dynamic learns from a text in its order; expected a .txt",
        ("--dynamic", "--decay=3", "--text=We"): "--decay is 3.0: expected 0 to 1",
        ("--dynamic", "--learning_rate=nan", "--text=We"): "--learning_rate is nan: expected 0 or more",
    }
    for given, expected in cases.items():
        code, out, err = said(capsys, "score", run / "run", *given)
        assert (code, out, len(err)) == (2, [], 1) and expected in err[0]
    (run / "gone.txt").write_text("x", encoding="utf8")
    code, out, err = said(capsys, "score", run / "run", run / "gone.txt", "--dynamic", "--text=We are")
    assert (code, len(out)) == (2, 5) and str(run / "gone.txt") in err[0]
