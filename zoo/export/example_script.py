"""What an artefact's own `example.py` is put together from: functions that need no zoo.

Each is copied as it stands, so it may use what `HEAD` imports, the names of its own file, and nothing else.
"""

import json
import sys
from pathlib import Path

import numpy as np

HEAD = """\
import json
import sys
from pathlib import Path

import numpy as np
"""


def arrays_in(about, folder, names):
    """The stack of examples in a .npy file, [n, ...]."""
    if len(names) != 1:
        sys.exit("expected one .npy file with a stack of examples: python example.py FILE.npy")
    try:
        given = np.load(names[0])
    except (OSError, ValueError) as error:
        sys.exit(f"{names[0]} cannot be read: {error}")
    wanted = about["inputs"][0]["dtype"]
    found = given.astype(wanted)
    if found.dtype.kind in "ui" and not np.array_equal(found, given):
        sys.exit(f"{names[0]} holds {given.dtype} that {wanted} cannot hold: expected values as in training")
    return {"x": found}


def texts_in(about, folder, texts):
    """Texts as ids: rows of one width with 0 after each text's end. A pair of texts has a tab between the two."""
    import tokenizers

    if not texts:
        sys.exit("expected one text or more: python example.py TEXT...")
    made = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    made.encode_special_tokens = True
    of, longest = about["text"], about["text"]["max_length"]

    def ids(text):
        found = made.encode(text, add_special_tokens=False).ids
        return [id + of["id_shift"] for id in found]

    def cut(found, room):
        if of["cut"] == "head" or len(found) <= room:
            return found[:room]
        head = room // 4 if of["cut"] == "head_tail" else 0
        return found[:head] + found[len(found) - (room - head) :]

    rows, second, places = [], [], []
    for text in texts:
        if of["pair"]:
            one, other = map(ids, text.split("\t"))
            room = longest - 3
            keep = min(len(one), max(room - len(other), (room + 1) // 2))
            one, other = one[:keep], other[: min(len(other), room - keep)]
            rows.append([of["frame"][0], *one, of["frame"][1], *other, of["frame"][1]])
            second.append(len(one) + 2)
            continue
        parts = text.split("[MASK]") if of["mask"] else [text]
        row = ids(parts[0])
        for part in parts[1:]:
            row += [of["mask"], *ids(part)]
        if of["frame"]:
            row = [of["frame"][0], *cut(row, longest - 2), of["frame"][1]]
        else:
            row = cut(row, longest) if longest else row
        rows.append(row)
        places.append([place for place, id in enumerate(row) if id == of["mask"]][:1] or [0])
    tokens = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    for line, row in zip(tokens, rows):
        line[: len(row)] = row
    feed = {"tokens": tokens}
    if of["pair"]:
        behind = np.arange(tokens.shape[1]) >= np.array(second)[:, None]
        feed["segments"] = (behind & (tokens != 0)).astype(np.int32)
    if of["mask"]:
        feed["places"] = np.array(places, np.int32)
    return feed


def run_savedmodel(folder, feed):
    """Logits by TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "model"))
    serve = loaded.signatures["serving_default"]
    return serve(**{name: tf.constant(each) for name, each in feed.items()})["logits"].numpy()


def run_keras(folder, feed):
    """Logits by Keras."""
    import keras

    model = keras.models.load_model(folder / "model.keras")
    return np.asarray(model.predict_on_batch(list(feed.values()) if len(feed) > 1 else next(iter(feed.values()))))


def run_litert(folder, feed):
    """Logits by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(folder / "model.tflite")).get_signature_runner()
    if run.get_input_details()[next(iter(feed))]["shape_signature"][0] != 1:
        return run(**feed)["logits"]
    # One example at a time.
    rows = [{name: each[i : i + 1] for name, each in feed.items()} for i in range(len(next(iter(feed.values()))))]
    return np.concatenate([run(**row)["logits"] for row in rows])


def run_onnx(folder, feed):
    """Logits by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["logits"], feed)[0]


def answers(about, logits, feed):
    """Of each example what the logits mean, as JSON."""
    for row, found in enumerate(logits):
        answer = {"logits": np.round(found.astype(float), 6).tolist()}
        if about["task"] == "classification":
            two = np.array([0.0, found[0]]) if len(found) == 1 else found
            chances = np.exp(two - two.max()) / np.exp(two - two.max()).sum()
            answer["probabilities"] = dict(zip(about["classes"], np.round(chances.astype(float), 6).tolist()))
        elif about["task"] == "regression":
            answer["value"] = float(found[0]) * about["scale"] + about["centre"]
        elif about["task"] == "tagging":
            inner = found[1 : np.count_nonzero(feed["tokens"][row]) - 1]
            answer["tags"] = [about["tags"][best] for best in inner.argmax(axis=1)]
        elif about["task"] == "language_model":
            answer["next"] = int(found[max(np.count_nonzero(feed["tokens"][row]) - 1, 0)].argmax())
        else:
            answer["best"] = found.argmax(axis=1).tolist()
        yield answer


def main(inputs, run):
    """Prints one line of JSON for each example."""
    folder = Path(__file__).parent
    about = json.loads((folder / "signature.json").read_text(encoding="utf8"))
    feed = inputs(about, folder, sys.argv[1:])
    for answer in answers(about, run(folder, feed), feed):
        print(json.dumps(answer, ensure_ascii=False))
