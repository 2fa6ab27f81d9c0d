"""Functions of an exported model's `example.py`, which does not import zoo.

Their source is copied unchanged, so they may use the imports of `HEAD`, the functions of example.py, and nothing else.
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
    """Examples from a .npy file, [n, ...]."""
    if len(names) != 1:
        sys.exit("expected one .npy file with a stack of examples: python example.py FILE.npy")
    try:
        array = np.load(names[0])
    except (OSError, ValueError) as error:
        sys.exit(f"{names[0]} cannot be read: {error}")
    dtype = about["inputs"][0]["dtype"]
    x = array.astype(dtype)
    if x.dtype.kind in "ui" and not np.array_equal(x, array):
        sys.exit(f"{names[0]} holds {array.dtype} values that {dtype} cannot represent: expected values as in training")
    return {"x": x}


def table_rows(path, of):
    """The rows of a delimited file by column, each with its first line."""
    import csv
    import gzip
    import re

    file = of["file"]
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", newline="", encoding=file["encoding"]) as source:
            lines = list(source)
    except (OSError, UnicodeError) as error:
        sys.exit(f"{path} cannot be read: {error}")
    lines[:1] = [line.removeprefix("\ufeff") for line in lines[:1]]
    expected = [column["name"] for column in of["columns"]]
    names = []
    # Without a known delimiter, the one that finds the columns.
    for delimiter in [file["delimiter"]] if file["delimiter"] else [",", ";", "\t", "|"]:
        if delimiter == " ":
            # Runs of blanks are one delimiter.
            most = len(file["columns"]) - 1 if file["columns"] else 0
            rows = ((n, re.split("[ \t]+", line.strip(), maxsplit=most)) for n, line in enumerate(lines, 1))
        else:
            reader = csv.reader(lines, delimiter=delimiter)
            rows = ((reader.line_num, fields) for fields in reader)
        rows = [(line, fields) for line, fields in rows if any(field.strip() for field in fields)]
        if not rows:
            sys.exit(f"{path} lacks rows")
        names = [name.strip() for name in rows[0][1]]
        if file["has_header"]:
            rows = rows[1:]
        else:
            names = file["columns"] or [f"column{n}" for n in range(1, len(names) + 1)]
        if set(expected) <= set(names):
            break
    lacking = [name for name in expected if name not in names]
    if lacking or not rows:
        sys.exit(f"{path} lacks {', '.join(lacking) or 'rows'}")
    for line, fields in rows:
        if len(fields) < len(names):
            sys.exit(f"{path} line {line} has {len(fields)} fields, expected {len(names)}")
    return [(line, dict(zip(names, fields))) for line, fields in rows]


def table_in(about, folder, names):
    """Rows of a delimited file as numbers [rows, features], NaN for missing values; other columns are ignored."""
    import datetime
    import re

    ends = (".csv", ".tsv", ".tab", ".txt")
    if len(names) != 1 or not names[0].lower().removesuffix(".gz").endswith(ends):
        sys.exit("expected one .csv file with the columns of the training table: python example.py FILE.csv")
    of = about["table"]
    rows = table_rows(names[0], of)

    def number(text):
        if of["decimal"] == ",":
            # A point that is between no thousands is a mistake: 1.5 must not become 15.
            grouped = re.fullmatch(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?", text)
            text = text.replace(".", "" if grouped else "x").replace(",", ".")
        return float(text)

    def date(text, column):
        form = column.get("format", "")
        found = datetime.datetime.strptime(text, form) if form else datetime.datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
        midnight = datetime.datetime(found.year, found.month, found.day)
        hours = (found - midnight).total_seconds() / 3600
        parts = [(midnight - datetime.datetime(1970, 1, 1)).days + hours / 24, found.month, found.weekday(), hours]
        return parts[: 4 if column.get("has_time") else 3]

    def values(text, column):
        text = text.strip()
        if text.lower() in of["missing"][column["kind"]]:
            return [np.nan] * (1 if column["kind"] != "date" else 4 if column.get("has_time") else 3)
        if column["kind"] == "number":
            return [number(text)]
        if column["kind"] == "date":
            return date(text, column)
        text = text.lower() if text.lower() in ("true", "false") else text
        whole, point, zeros = text.partition(".")
        if point and zeros and not zeros.strip("0") and whole.lstrip("+-").isdigit():
            text = whole
        return [column["levels"].index(text) if text in column["levels"] else -1]

    x = []
    for line, row in rows:
        try:
            x.append([value for column in of["columns"] for value in values(row[column["name"]], column)])
        except ValueError as error:
            sys.exit(f"{names[0]} line {line}: {error}")
    return {"x": np.array(x, np.float32)}


def texts_in(about, folder, texts):
    """Texts as ids [texts, time], with 0 after each text's end. A pair of texts is separated by a tab."""
    import tokenizers

    if not texts:
        sys.exit("expected one text or more: python example.py TEXT...")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    of, longest = about["text"], about["text"]["max_length"]

    def encode(text):
        return [id + of["id_shift"] for id in tokenizer.encode(text, add_special_tokens=False).ids]

    def cut(ids, room):
        if of["cut"] == "head" or len(ids) <= room:
            return ids[:room]
        head = room // 4 if of["cut"] == "head_tail" else 0
        return ids[:head] + ids[len(ids) - (room - head) :]

    rows, second, places = [], [], []
    for text in texts:
        if of["pair"]:
            one, other = map(encode, text.split("\t"))
            room = longest - 3
            keep = min(len(one), max(room - len(other), (room + 1) // 2))
            one, other = one[:keep], other[: min(len(other), room - keep)]
            rows.append([of["frame"][0], *one, of["frame"][1], *other, of["frame"][1]])
            second.append(len(one) + 2)
            continue
        parts = text.split("[MASK]") if of["mask"] else [text]
        row = encode(parts[0])
        for part in parts[1:]:
            row += [of["mask"], *encode(part)]
        if of["frame"]:
            row = [of["frame"][0], *cut(row, longest - 2), of["frame"][1]]
        else:
            row = cut(row, longest) if longest else row
        rows.append(row)
        places.append([position for position, id in enumerate(row) if id == of["mask"]][:1] or [0])
    tokens = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    for line, row in zip(tokens, rows):
        line[: len(row)] = row
    feed = {"tokens": tokens}
    if of["pair"]:
        in_second = np.arange(tokens.shape[1]) >= np.array(second)[:, None]  # [texts, time]
        feed["segments"] = (in_second & (tokens != 0)).astype(np.int32)
    if of["mask"]:
        feed["places"] = np.array(places, np.int32)
    return feed


def words_in(about, folder, sentences):
    """Words as ids [sentences, time], with 0 after each sentence's end, and their features at their first ids."""
    import tokenizers
    import word_features

    if not sentences:
        sys.exit("expected one sentence or more, its words separated by spaces: python example.py SENTENCE...")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    of = about["text"]
    first, last = of["frame"]
    rows, places, kept = [], [], []
    for sentence in sentences:
        words = (
            [each for each in sentence if not each.isspace()] if about["words"] == "characters" else sentence.split()
        )
        row, starts = [first], []
        for word in words:
            ids = [id + of["id_shift"] for id in tokenizer.encode(word, add_special_tokens=False).ids]
            if len(row) + len(ids) >= of["max_length"]:
                break
            starts.append(len(row) if ids else -1)
            row += ids
        rows.append([*row, last])
        places.append(np.array(starts, np.int64))
        kept.append(words[: len(starts)])
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for line, row in zip(tokens, rows):
        line[: len(row)] = row
    buckets = about["word_features"]["buckets"]
    return {"tokens": tokens, "features": word_features.column(kept, places, tokens.shape[1], buckets)}


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
    """Decodes the logits of each example into a JSON object."""
    for number, row in enumerate(logits):
        answer = {"logits": np.round(row.astype(float), 6).tolist()}
        if about["task"] == "classification":
            two = np.array([0.0, row[0]]) if len(row) == 1 else row
            probabilities = np.exp(two - two.max()) / np.exp(two - two.max()).sum()
            answer["probabilities"] = dict(zip(about["classes"], np.round(probabilities.astype(float), 6).tolist()))
        elif about["task"] == "multi_label":
            probabilities = 1.0 / (1.0 + np.exp(-row.astype(float)))
            pairs = list(zip(about["classes"], probabilities, about["thresholds"]))
            answer["probabilities"] = {name: round(float(each), 6) for name, each, _ in pairs}
            answer["labels"] = [name for name, each, threshold in pairs if np.float32(each) >= threshold]
        elif about["task"] == "regression":
            answer["value"] = float(row[0]) * about["scale"] + about["centre"]
        elif about["task"] == "tagging":
            # Without the special tokens before and after the text.
            inner = row[1 : np.count_nonzero(feed["tokens"][number]) - 1]
            if "features" in feed:
                # At the first id of each word.
                inner = row[feed["features"][number, :, 0] != 0]
            answer["tags"] = [about["tags"][best] for best in inner.argmax(axis=1)]
        elif about["task"] == "language_model":
            answer["next"] = int(row[max(np.count_nonzero(feed["tokens"][number]) - 1, 0)].argmax())
        else:
            answer["best"] = row.argmax(axis=1).tolist()
        yield answer


def main(inputs, run):
    """Prints one line of JSON for each example."""
    folder = Path(__file__).parent
    about = json.loads((folder / "signature.json").read_text(encoding="utf8"))
    feed = inputs(about, folder, sys.argv[1:])
    for answer in answers(about, run(folder, feed), feed):
        print(json.dumps(answer, ensure_ascii=False))
