"""The simulation study of the class prior, on one small world."""

from benchmarks.multi_step import shift_study


def test_table(capsys):
    shift_study.main(["--seeds=1", "--problems", "3, few examples"])
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in capsys.readouterr().out.splitlines()}
    assert rows["shares 0.1"][1].strip().startswith("+")
    # The stage and the estimate alike leave a stream without a shift as it is.
    assert [cell.strip() for cell in rows["none 0"][:2]] == ["+0.00", "+0.00 (+0.00 to +0.00)"]
    assert len(rows) == 2 + len(shift_study.LABEL_SHIFTS + shift_study.MIXED_SHIFTS + shift_study.OTHER_SHIFTS)
