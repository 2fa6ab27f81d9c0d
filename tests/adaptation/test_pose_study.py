"""The study of the guard of poses: its table, from made figures."""

import json

from benchmarks.multi_step import pose_study


def search(gain, ratio, kept):
    return {"gain": gain, "ratio": ratio, "kept": kept, "stream": "made"}


def test_table(tmp_path):
    """What is kept and refused is counted, over all seeds."""
    seeds = [search(0.5, 0.1, True), search(-0.2, 0.2, False)], [search(0.1, 0.4, True), search(-0.04, 0.9, False)]
    for seed, searches in enumerate(seeds):
        (tmp_path / f"poses-digits-{seed}.json").write_text(json.dumps(searches))
    (row,) = [line for line in pose_study.section(tmp_path).splitlines() if line.startswith("| digits")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["digits, 2", "+9.0", "+15.0", "0 of 2", "+10.0", "+7.5", "1 of 2", "-20.0", "+15.0"]
