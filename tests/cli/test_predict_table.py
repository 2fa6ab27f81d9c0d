"""`zoo predict --out` of a run on texts; tables of numbers are in tests/experiments/test_raw_tables.py."""

import numpy as np
import pandas as pd

import zoo
from tests.helpers import finished
from zoo.cli.main import main as command


def test_texts_keep_their_ids(tmp_path, capsys):
    workdir = finished.reviews(tmp_path / "run")
    texts = ["a good film", "bad, very bad", "这本书"]
    pd.DataFrame({"id": [7, 8, 9], "review": texts}).to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "answers.csv"
    flags = ["--text_column=review", f"--out={out}"]
    assert command(["predict", str(workdir), str(tmp_path / "t.csv"), *flags]) == 0 and not capsys.readouterr().out
    answers, predictor = pd.read_csv(out, dtype={"prediction": str}), zoo.load(workdir)
    probabilities = predictor.probabilities(texts)
    assert list(answers) == ["id", "prediction", *(f"probability {name}" for name in predictor.classes)]
    assert answers["id"].tolist() == [7, 8, 9]
    np.testing.assert_allclose(answers.iloc[:, 2:], probabilities, rtol=1e-6)
    assert answers["prediction"].tolist() == [predictor.classes[i] for i in probabilities.argmax(axis=1)]
