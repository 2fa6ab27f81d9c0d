"""`zoo search` and `zoo summarize`: what they print, from every kind of file, and with bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import bert_folders as folders
from zoo.cli import main
from zoo.predict.predictors.printable import one_line
from zoo.predict.retrieval import bm25, embedder

ZOO = [sys.executable, "-m", "zoo.cli"]
TEXTS = ["the film was good", "这本书很好", "", "the FILM, the book!", "not a good book"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return folders.spread(tmp_path_factory.mktemp("search") / "bert")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,review\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(TEXTS)), encoding="utf8")
    return path


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def files(folder):
    """The same texts in each kind of file, with the flags that it needs."""
    (folder / "a.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf8")
    (folder / "a.tsv").write_text("\n".join(["text\tid", *(f'"{text}"\t1' for text in TEXTS)]), encoding="utf8")
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in TEXTS))
    return [(folder / "a.txt", ()), (folder / "a.tsv", ()), (folder / "a.jsonl", ("--text_column=body",))]


def test_search_prints_both_ways_as_they_are_computed(bert, table, say):
    flags = ("--text_column=review", "--query=good film", "--query=书", "--top=2", "--json")
    code, out, err = say("search", bert, table, *flags)
    assert (code, len(out), err) == (0, 2, ["zoo: left out 1 that have no word in them"])
    full = [number for number, text in enumerate(TEXTS) if text]
    vectors = embedder.load(bert).embed([*(TEXTS[number] for number in full), "good film", "书"], normalized=True)
    by_words = bm25.Bm25([TEXTS[number] for number in full])
    for query, vector, line in zip(["good film", "书"], vectors[4:], out):
        answer = json.loads(line)
        assert list(answer) == ["query", "embeddings", "bm25"] and answer["query"] == query
        for way, scores in (("embeddings", vectors[:4] @ vector), ("bm25", by_words.scores(query))):
            order = [place for place in np.argsort(-scores)[:2] if way == "embeddings" or scores[place] > 0]
            assert [hit["index"] for hit in answer[way]] == [full[place] for place in order]
            assert [hit["score"] for hit in answer[way]] == pytest.approx([scores[place] for place in order], abs=1e-5)
            assert [hit["text"] for hit in answer[way]] == [TEXTS[hit["index"]] for hit in answer[way]]


def test_kinds_of_files_give_the_same_answer(bert, tmp_path, say):
    answers = [say("search", bert, path, *flags, "--query=good book") for path, flags in files(tmp_path)]
    # What is assumed about a .tsv is said on stderr.
    assert answers[0][:2] == answers[1][:2] == answers[2][:2]
    assert [len(err) for _, _, err in answers] == [1, 2, 1] and "fields in double quotes" in answers[1][2][0]
    code, out, _ = answers[0]
    assert code == 0 and out[:2] == ["good book", "  embeddings"] and len(out) == 10
    assert out[6] == "  bm25" and out[7].split("\t")[::2] == ["    [4]", "not a good book"]


def test_vectors_of_a_file_are_computed_once(bert, table, say, cache, monkeypatch):
    flags = ("--text_column=review", "--query=good")
    first = say("search", bert, table, *flags)
    plain, asked = embedder.Embedder.embed, []
    monkeypatch.setattr(
        embedder.Embedder,
        "embed",
        lambda self, texts, *a, **k: asked.append(list(texts)) or plain(self, texts, *a, **k),
    )
    assert say("search", bert, table, *flags) == first and asked == [["good"]]
    assert len(list(cache.iterdir())) == 1
    say("search", bert, table, *flags, "--max_length=4")
    assert len(asked) == 3 and len(list(cache.iterdir())) == 2


def test_evaluate(bert, tmp_path, say):
    texts = [f"good film book number{i} the was not book number{i} 书" for i in range(12)]
    (tmp_path / "a.txt").write_text("\n".join([*texts, texts[0], "x"]), encoding="utf8")
    code, out, err = say("search", bert, tmp_path / "a.txt", "--evaluate")
    result = json.loads(out[-1])
    assert (code, err) == (0, []) and (result["texts"], result["left_out"]) == (12, 2)
    assert result["bm25"]["recall@1"] == 1.0
    assert result["difference"]["mrr"] == pytest.approx(result["embeddings"]["mrr"] - 1.0)
    assert [line.split()[0] for line in out[:5]] == ["The", "left", "embeddings", "bm25", "difference"]
    assert "recall@1 1.000 (1.000 to 1.000)" in out[3]
    code, out, _ = say("search", bert, tmp_path / "a.txt", "--evaluate", "--json")
    assert code == 0 and [json.loads(line) for line in out] == [result]


def test_nothing_found_by_words(bert, table, say):
    code, out, _ = say("search", bert, table, "--text_column=review", "--query=unheard \x1b[31m of", "--top=1")
    assert code == 0 and out[0] == "unheard [31m of" and out[-1] == "  bm25  no text has a word of the query"


def test_long_texts_are_cut_on_the_screen_only(bert, tmp_path, say):
    (tmp_path / "a.txt").write_text("good " * 40)
    code, out, err = say("search", bert, tmp_path / "a.txt", "--query=good")
    assert code == 0 and out[2].endswith("…") and len(out[2].split("\t")[2]) == 100
    assert err == ["zoo: 1 of 1 texts are cut to the 16 tokens that are read"]
    [line] = say("search", bert, tmp_path / "a.txt", "--query=good", "--json")[1]
    assert json.loads(line)["bm25"][0]["text"] == "good " * 40


def test_summarize(bert, say):
    text = "The film was good. It was not bad. 这本书很好。The book? Good film!"
    code, out, err = say("summarize", bert, "--text", text, "--text=Good.", "--sentences=2", "--json")
    long, short = map(json.loads, out)
    assert (code, err) == (0, []) and (long["document"], short["document"]) == ("text 1", "text 2")
    assert long["sentences"] == 5 and short["sentences"] == 1
    parts = ["The film was good.", "It was not bad.", "这本书很好。", "The book?", "Good film!"]
    for part in (long["summary"], long["lead"]):
        assert [hit["text"] for hit in part["sentences"]] == [parts[hit["index"]] for hit in part["sentences"]]
    assert [hit["index"] for hit in long["lead"]["sentences"]] == [0, 1]
    numbers = [hit["index"] for hit in long["summary"]["sentences"]]
    assert numbers == sorted(numbers) and len(numbers) == 2
    rows = embedder.load(bert).embed(parts, normalized=True)
    part, whole = rows[numbers].mean(0), rows.mean(0)
    cosine = part @ whole / np.sqrt((part @ part) * (whole @ whole))
    assert long["summary"]["similarity"] == pytest.approx(cosine, abs=1e-5)
    assert short["summary"] == short["lead"] and short["lead"]["similarity"] == pytest.approx(1.0)


def test_summarize_files(bert, tmp_path, say):
    (tmp_path / "one.txt").write_text("The film was good.\nIt was. \n\nA book", encoding="utf8")
    (tmp_path / "two.jsonl").write_text('{"text": "Good. Film."}\n{"text": "书。"}\n')
    code, out, err = say("summarize", bert, "--json", tmp_path / "one.txt", tmp_path / "two.jsonl")
    assert (code, err) == (0, [])
    found = [json.loads(line) for line in out]
    names = [str(tmp_path / name) for name in ("one.txt", "two.jsonl[0]", "two.jsonl[1]")]
    assert [answer["document"] for answer in found] == names
    assert [answer["sentences"] for answer in found] == [3, 2, 1]
    code, out, _ = say("summarize", bert, tmp_path / "one.txt", "--sentences=1")
    assert code == 0 and len(out) == 5
    assert out[3].startswith("  first sentences, 1 of 3, similarity to the document 0.")
    assert out[4] == "    [0] The film was good."


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["search", "BERT", "a.txt"], "expected either --query, once or more, or --evaluate"),
        (
            ["search", "BERT", "a.txt", "--query=a", "--evaluate"],
            "expected either --query, once or more, or --evaluate",
        ),
        (["search", "BERT", "a.txt", "--query=a", "--query= "], "--query is empty: expected a text to look for"),
        (["search", "nowhere", "a.txt", "--query=a"], "nowhere is not a folder; expected minilm"),
        (["search", ".", "a.txt", "--query=a"], "has neither config.json nor model.json"),
        (["search", "BERT", "none.txt", "--query=a"], "none.txt cannot be read: No such file or directory"),
        (
            ["search", "BERT", "a.md", "--query=a"],
            "a.md: unknown kind of file; expected .csv, .tsv, .txt, .jsonl or .json",
        ),
        (["search", "BERT", "empty.txt", "--query=a"], "empty.txt has 0 texts, none with a word in it; expected some"),
        (["search", "BERT", "blank.txt", "--query=a"], "blank.txt has 3 texts, none with a word in it; expected some"),
        (["search", "BERT", "b.csv", "--query=a"], "b.csv has no column 'text', it has id, texts: did you mean texts?"),
        (["search", "BERT", "empty.csv", "--query=a"], "empty.csv is empty: expected a header"),
        (["search", "BERT", "latin.txt", "--query=a"], "latin.txt line 2 is not text in UTF-8"),
        (["search", "BERT", "a.txt", "--evaluate"], "1 of 1 texts can be cut in two; expected 2 or more"),
        (["search", "BERT", "a.txt", "--query=a", "--max_length=2"], "max_length is 2: expected 3 to 16 tokens"),
        (["summarize", "BERT"], "expected either FILE or --text"),
        (["summarize", "BERT", "a.txt", "--text=a"], "expected either FILE or --text"),
        (["summarize", "BERT", "--text=a", "--text= "], "text 2 has no word in it; expected a text to summarize"),
        (["summarize", "BERT", "blank.txt"], "blank.txt has no word in it; expected a text to summarize"),
        (["summarize", "BERT", "rows.csv"], "rows.csv has no texts; expected some to summarize"),
        (["summarize", "BERT", "b.csv"], "b.csv has no column 'text', it has id, texts: did you mean texts?"),
    ],
)
def test_bad_input(bert, argv, said, tmp_path, monkeypatch, say):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a good film")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "blank.txt").write_text("\n \n\t\n")
    (tmp_path / "b.csv").write_text("id,texts\n1,a\n")
    (tmp_path / "rows.csv").write_text("text\n")
    (tmp_path / "latin.txt").write_bytes(b"good\ncaf\xe9\n")
    code, out, err = say(*(str(bert) if word == "BERT" else word for word in argv))
    assert (code, out, len(err)) == (2, [], 1) and said in err[0] and err[0].startswith("zoo: ")


@pytest.mark.parametrize("flag", ["--top=0", "--max_length=x"])
def test_wrong_numbers(bert, flag, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["search", str(bert), "a.txt", "--query=a", flag])
    assert stop.value.code == 2 and "whole number" in capsys.readouterr().err


def test_another_process_says_the_same(bert, tmp_path, say, cache):
    """And finds the vectors that this one keeps."""
    (path, flags), *_ = files(tmp_path)
    argv = ["search", str(bert), str(path), *flags, "--query=good book", "--top=4", "--json"]
    [here] = map(json.loads, say(*argv)[1])
    [kept] = cache.iterdir()
    before = kept.stat().st_mtime_ns
    found = subprocess.run([*ZOO, *argv], check=True, capture_output=True, text=True, timeout=300)
    [there] = map(json.loads, found.stdout.splitlines())
    for way in ("embeddings", "bm25"):
        scores = [[hit.pop("score") for hit in answer[way]] for answer in (here, there)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert here == there and list(cache.iterdir()) == [kept] and kept.stat().st_mtime_ns == before
    # TensorFlow has lines of its own.
    assert "zoo: left out 1 that have no word in them" in found.stderr.splitlines()


def test_bad_input_is_refused_without_tensorflow(bert, tmp_path):
    (tmp_path / "a.txt").touch()
    command = [sys.executable, "-X", "importtime", *ZOO[1:], "search", str(bert), str(tmp_path / "a.txt"), "--query=a"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines()}
    assert found.returncode == 2 and "zoo.cli.search" in imported
    assert not {"tensorflow", "keras", "bm25s"} & imported
    assert f"zoo: {tmp_path / 'a.txt'} has 0 texts" in found.stderr


def test_a_line_is_a_line():
    assert one_line("a\n b\t\x07c") == "a b c"
