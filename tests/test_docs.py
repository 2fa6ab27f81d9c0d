"""What README.md and docs/ say can be typed.

Three ways. A fenced block of `python` or `sh` in docs/ is run as it stands, page by page, in this process and in a new
folder; those of the README and of text.md are run by test_readme.py. Some more commands are run on tiny runs. All else
that looks like a command (indented lines, `text` blocks, words in backquotes) may take minutes or need data that is not
here: it is parsed by the program's own parser, so that each flag exists and each value is legal; nothing is trained.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from absl import flags

import zoo
from experiments import (
    bert_finetune,
    bert_pretrain,
    bert_tag,
    cnn_classifier,
    language_model,
    lstm_sentiment,
    mlp_classifier,
    mlp_multilabel,
    mlp_regressor,
)
from zoo import config_flags
from zoo.cli import main
from zoo.data.datasets import documents, images, running_text, tagging, text_classification
from zoo.data.text import tokenizer
from zoo.engine import optimizers

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ABOVE = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = {name: ROOT / name for name in ABOVE} | {path.name: path for path in sorted(DOCS.glob("*.md"))}
CONFIGS = {
    "cnn_classifier": (cnn_classifier.build, cnn_classifier.CnnConfig),
    "mlp_classifier": (mlp_classifier.build, mlp_classifier.MlpConfig),
    "mlp_multilabel": (mlp_multilabel.build, mlp_multilabel.MultilabelConfig),
    "mlp_regressor": (mlp_regressor.build, mlp_regressor.RegressorConfig),
    "lstm_sentiment": (lstm_sentiment.build, lstm_sentiment.LstmConfig),
    "bert_pretrain": (bert_pretrain.build, bert_pretrain.PretrainConfig),
    "bert_finetune": (bert_finetune.build, bert_finetune.FinetuneConfig),
    "bert_tag": (bert_tag.build, bert_tag.TagConfig),
    "language_model": (language_model.build, language_model.LanguageModelConfig),
}
DATASETS = {
    *images.NAMES,
    images.DIABETES,
    *text_classification.NAMES,
    *documents.NAMES,
    *tagging.NAMES,
    *running_text.NAMES,
}
FENCE = re.compile(r"^([ ]*)```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Flags that all races share.
COMMAND_LINE = ROOT / "benchmarks" / "harness" / "command_line.py"
# Peers of coming_from.md: their blocks run where they are installed.
PEERS = ("orbit", "torch")


def read(name):
    return PAGES[name].read_text(encoding="utf8")


def blocks(name, language):
    """Fenced blocks of a page: (title, text), without the indentation of a tab."""
    found = FENCE.findall(read(name))
    return [(title, textwrap.dedent(text)) for _, kind, title, text in found if kind == language]


def peer_of(text):
    """The peer whose block it is, or None."""
    return next((peer for peer in PEERS if f"import {peer}\n" in text), None)


def logical_lines(text):
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.strip()]


def parsed_flags(name, words):
    """The config and the workdir that an experiment makes of its flags; raises what it says against them."""
    values = flags.FlagValues()
    config_flags.define_flags(CONFIGS[name][1], f"runs/{name}", values)
    assert values(["program", *words]) == ["program"], words
    return config_flags.from_flags(CONFIGS[name][1], values), values.workdir


def run_line(line, folder):
    """Runs a command line: experiments and `zoo` in this process, which has TensorFlow already."""
    words = shlex.split(line, comments=True)
    if words[0] == "zoo":
        assert main.main(words[1:]) == 0, line
    elif words[:2] == ["python", "-m"] and words[2].startswith("experiments."):
        name = words[2].removeprefix("experiments.")
        made, workdir = parsed_flags(name, words[3:])
        zoo.run(CONFIGS[name][0], made, workdir)
    else:
        assert words[0] == "python", line
        # XLA's flags are those of a user.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
        environment.pop("XLA_FLAGS", None)
        words[0] = sys.executable
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr


# What Keras' own loop and the peers warn of is theirs.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PAGES if name not in (*ABOVE, "text.md")])
def test_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace = {"__name__": "docs"}
    for _, language, title, text in FENCE.findall(read(name)):
        text = textwrap.dedent(text)
        assert language in ("python", "sh", "text"), f"{name} has a block of {language}: say here how to test it"
        if language == "python" and title:
            (tmp_path / title).write_text(text, encoding="utf8")
        elif language == "python" and not peer_of(text):
            exec(compile(text, name, "exec"), namespace)
        elif language == "sh":
            for line in logical_lines(text):
                run_line(line, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_runs(peer, capsys):
    """The same digits, and what every block prints: an accuracy."""
    pytest.importorskip(peer, reason=f"{peer} is no dependency")
    (data, *_), namespace = blocks("coming_from.md", "python"), {"__name__": "docs"}
    (text,) = [text for _, text in blocks("coming_from.md", "python") if peer_of(text) == peer]
    for part in (data[1], text):
        exec(compile(part, "coming_from.md", "exec"), namespace)
    assert float(capsys.readouterr().out.split()[-1]) > 0.7


def tiny_runs(folder):
    """The runs and files that the commands name, small."""
    play = folder / "mine.txt"
    play.write_text("KING:\nTo be, or not to be, that is the question.\n" * 60, encoding="utf8")
    for name in ("play.txt", "review.txt", "other_reviews.txt"):
        shutil.copy(play, folder / name)
    test = images.load("mnist_5k").test
    np.save(folder / "photos.npy", test["x"][:250])
    np.savez(folder / "few.npz", x=test["x"][250:300], y=test["y"][250:300])
    small = "--layers=1 --width=16 --heads=2 --context=16 --steps=10 --warmup_steps=2"
    run_line(f"python -m experiments.language_model --train_file=mine.txt --workdir=runs/shakespeare {small}", folder)
    run_line("python -m experiments.mlp_classifier --workdir=runs/first --steps=60 --norm=batch", folder)


@pytest.mark.filterwarnings("ignore")
def test_commands_on_tiny_runs(tmp_path, monkeypatch, capsys):
    """As they stand, but the runs that they use have seen a few steps."""
    monkeypatch.chdir(tmp_path)
    wanted = r"zoo (predict|generate|score) runs/(first|shakespeare) "
    lines = dict.fromkeys(line for name in PAGES for line in commands(name) if re.match(wanted, line))
    # What reads stdin is in test_cli.py and test_litert.py.
    lines = [line for line in lines if "digits.npy" not in line and " - " not in line]
    assert len(lines) >= 4
    tiny_runs(tmp_path)
    capsys.readouterr()
    for line in lines:
        run_line(line, tmp_path)
        assert capsys.readouterr().out.strip(), line
    assert (tmp_path / "trace.jsonl").exists()


# What is parsed.


def commands(name):
    """Lines of a page that can be typed but are not run: indented ones and those of `text` blocks."""
    page = read(name)
    kinds = ("text", "sh") if name.startswith("README") else ("text",)
    lines = [line for kind in kinds for _, text in blocks(name, kind) for line in logical_lines(text)]
    outside = FENCE.sub("", page)
    # Markdown's code: paragraphs that are set in by four spaces or more.
    for part in re.split(r"\n[ ]*\n", outside):
        if all(line.startswith("    ") for line in part.strip("\n").splitlines()):
            lines += logical_lines(part)
    return lines


def inline(name):
    """Commands and flags in backquotes."""
    page = FENCE.sub("", read(name))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", page)]
    return [span for span in spans if re.match(r"(zoo|make|python) |--", span)]


def check_value(name, value):
    if value is None:
        # Unset: the experiment's recipe chooses it.
        return
    if name == "dataset" and value not in DATASETS:
        assert re.search(r"\.(csv|npz|xlsx)$|folder$", value), f"--dataset={value}"
    if name == "optimizer":
        assert value in optimizers.NAMES, value
    if name == "tokenizer":
        assert value in {*tokenizer.KINDS, *tokenizer.EXACT} or value.endswith("tokenizer.json"), value


def check_experiment(name, words):
    if name == "demo":
        assert all(word.startswith("--workdir=") for word in words)
        return
    words = [word.replace("=SEED", "=0") for word in words if not word.startswith("--flagfile=") and word != "--help"]
    made, _ = parsed_flags(name, words)
    for option in ("dataset", "optimizer", "tokenizer"):
        check_value(option, getattr(made, option, "adam" if option == "optimizer" else "bpe"))


def check_benchmark(name, words):
    place = ROOT / "benchmarks" / name.replace(".", "/")
    sources = [*([place / "__main__.py"] if place.is_dir() else [place.with_suffix(".py")]), COMMAND_LINE]
    known = "".join(path.read_text(encoding="utf8") for path in sources)
    for word in words:
        flag = word.partition("=")[0]
        assert not flag.startswith("--") or f'"{flag}"' in known or "_python" in flag, f"benchmarks.{name} {flag}"


def check(line):
    """Asserts that a command line is legal; the kind of command it is."""
    # `A: python ...`, `TF_CONFIG=... python ...`, a comment at the end.
    words = shlex.split(re.sub(r"^[A-Z]: ", "", line), comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    if not words:
        return "comment"
    if words[0] == "zoo":
        if words[1:] != ["--help"]:
            arguments = main._parsed(words[1:])
            if arguments.command == "sweep" and arguments.experiment.startswith("experiments."):
                check_experiment(arguments.experiment.partition(".")[2], arguments.flags)
        return "zoo"
    if words[:2] == ["python", "-m"]:
        package, _, name = words[2].partition(".")
        if package == "experiments":
            check_experiment(name, words[3:])
        elif package == "benchmarks":
            check_benchmark(name, words[3:])
        else:
            assert words[2] == "pytest", line
            assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))
        return "python"
    if words[0] == "python":
        # An export's own program, which test_export.py runs, or one of the project's.
        assert words[1].endswith("/example.py") or (ROOT / words[1]).is_file(), line
        return "python"
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), line
        return "make"
    if words[0] == "eval":
        return check(re.search(r"\$\((.*)\)", words[1])[1])
    if words[0].startswith("--"):
        assert any(fits(name, words) for name in CONFIGS), line
        return "flags"
    assert words[0] in ("tensorboard", "!git", "%cd", "."), f"{line}: say here how to check it"
    return "other"


def fits(name, words):
    try:
        parsed_flags(name, words)
    except (flags.Error, zoo.errors.ZooError):
        return False
    return True


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_legal(name, capsys):
    for line in commands(name):
        try:
            check(line)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{name}: {line}\n{error} {capsys.readouterr().err}") from error


def known_flags():
    fields = [field for _, kind in CONFIGS.values() for field in kind.__dataclass_fields__.values()]
    names = {field.name for field in fields} | {field.metadata.get("alias") for field in fields}
    names |= {f"no{field.name}" for field in fields if "bool" in str(field.type)}
    actions = [action for verb in main._parser()[1].choices.values() for action in verb._actions]
    options = {option for action in actions for option in action.option_strings}
    programs = *(ROOT / "benchmarks").rglob("*.py"), ROOT / "notebooks" / "pair.py"
    sources = "".join(path.read_text(encoding="utf8") for path in programs)
    return {f"--{name}" for name in names if name} | options | set(re.findall(r'"(--\w+)"', sources))


# Of pip, TensorBoard, pytest, absl; and what `--workdir` is.
OTHERS = {
    "--no-deps",
    "--editable",
    "--quiet",
    "--logdir",
    "--part",
    "--record_seconds",
    "--help",
    "--flagfile",
    "--workdir",
    "--version",
}


def test_commands_are_found():
    found = {name: len(commands(name)) for name in PAGES}
    assert sum(found.values()) > 80
    for name in ("training.md", "text.md", "encoders.md", "language_models.md", "results.md", "README.md"):
        assert found[name] > 5, name


@pytest.mark.parametrize("name", PAGES)
def test_words_in_backquotes_are_there(name):
    known, verbs = known_flags() | OTHERS, set(main._parser()[1].choices)
    for span in inline(name):
        assert [flag for flag in re.findall(r"(?<![\w-])--[\w-]+", span) if flag not in known] == [], f"{name}: {span}"
        if span.startswith("zoo ") and not span.startswith("zoo --"):
            word = span.split()[1]
            assert word in verbs or word == "COMMAND", f"{name}: {span}"


def test_what_is_not_legal_is_found():
    """The checks of this file can fail."""
    for line in (
        "zoo predikt run",
        "zoo predict run --txt a",
        "python -m experiments.mlp_classifier --hiden=3",
        "python -m experiments.mlp_classifier --schedule=cosin",
        "python -m experiments.mlp_classifier --dataset=mnists",
        "python -m experiments.bert_tag --optimizer=adamx",
        "python -m benchmarks.mlp --turns=3",
        "make everything",
        "--train_fil=a.csv",
        "rm -rf run",
    ):
        with pytest.raises((Exception, SystemExit)):
            check(line)


# The rest of the documentation.


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist(name):
    for path in re.findall(r"`((?:tests|zoo|experiments|benchmarks|docs|notebooks)/[\w./]+)`", read(name)):
        assert (ROOT / path).exists(), f"{name} names {path}"
    for row in re.findall(r"^\|.*`tests/.*\|$", read(name), re.MULTILINE):
        for file in re.findall(r"`(?:tests/)?((?:\w+/)?test_\w+\.py)`", row):
            assert (ROOT / "tests" / file).exists(), f"{name} names {file}"


def test_every_promise_has_a_test():
    sections = read("promises.md").split("\n## ")[1:]
    assert [text.splitlines()[0] for text in sections if "`tests/" not in text] == ["Not promised"]
    rows = re.findall(r"^\|.*\|$", read("promises.md"), re.MULTILINE)
    rows = [row for row in rows if row not in ("| promise | test |", "|---|---|")]
    assert len(rows) > 20 and [row for row in rows if "`tests/" not in row.split(" | ")[-1]] == []


def test_the_changelog_knows_this_version():
    assert f"\n## {zoo.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    # What the theme says of MkDocs' next version is no warning of this site.
    # XLA's flags are those of a user.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_the_site_needs_no_other_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        loaded = re.findall(r"<(?:link[^>]* href|script[^>]* src|img[^>]* src)=\"?([^\s\">]+)", page.read_text("utf8"))
        assert loaded and [place for place in loaded if place.startswith(("http:", "https:", "//"))] == [], page


def test_the_site_has_the_api_and_the_figures(site):
    api = (site / "api" / "run.html").read_text("utf8")
    assert "zoo.training.run.run" in api and "goes on where an earlier run" in api
    figures = {"results": "98.76 ± 0.11 %", "speed": "594,000 examples/s", "multi_step_prediction": "39.0"}
    for name, figure in figures.items():
        assert figure in (site / f"{name}.html").read_text("utf8"), name


def test_the_api_names_every_room(site):
    """Each room with public functions has a page; the command line and small helpers have none."""
    named = set(re.findall(r"^::: zoo\.(\w+)", "".join(path.read_text() for path in (DOCS / "api").glob("*.md")), re.M))
    rooms = {path.parent.name for path in (ROOT / "zoo").glob("*/__init__.py")}
    assert rooms - named == {"cli"}
