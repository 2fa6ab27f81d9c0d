"""`zoo evaluate`."""

import argparse
from typing import Any

from zoo import files, strict_json
from zoo.cli import file_flags, refine_flags
from zoo.cli.parser import add_verb, require_run


def add(verbs: Any) -> None:
    """`zoo evaluate WORKDIR`."""
    about = "Print a run's metrics on its test split, or on other data."
    verb = add_verb(verbs, "evaluate", about, "The last line is a JSON object.")
    verb.add_argument(
        "--dataset",
        metavar="NAME_OR_FILE",
        help="another data set (default: the test split of the run's own): the test split of a named one, or all of a "
        ".npz, .csv, .tsv, .parquet or .xlsx file or a folder of x.npy and y.npy, which may lack some of the classes; "
        "a NAME.npy beside labels.npy (CIFAR-10-C) or test_images.npy beside test_labels.npy (MNIST-C); "
        "for a run on texts a .csv, .tsv, .txt, .jsonl, .json (also .gz), .parquet or .xlsx, and for a tagger a CoNLL "
        "file, without the run's training and validation examples",
    )
    columns = {"text_column": "texts", "pair_column": "second texts", "label_column": "classes"}
    for name, content in columns.items():
        verb.add_argument(
            f"--{name}", metavar="NAME", help=f"column of the {content} in such a file (default: the run's)"
        )
    verb.add_argument(
        "--weight_column",
        metavar="NAME",
        help="column of example weights in a table (default: the run's, where the table has it); empty for none",
    )
    verb.add_argument(
        "--fix_tags",
        action="store_true",
        help="accept entity tags of a CoNLL file that break their scheme, as CoNLL's script reads them",
    )
    verb.add_argument(
        "--drop_unlabelled", action="store_true", help="leave out examples of such a file without a label"
    )
    file_flags.add(verb, of_run=True)
    refine_flags.add_sets(verb)
    verb.add_argument("--json", action="store_true", help="print the JSON object only")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    refine_flags.check_sets(arguments)
    from zoo.model_info import read_model_info
    from zoo.predict.evaluation.evaluate import evaluate

    columns = arguments.text_column, arguments.label_column, arguments.pair_column, arguments.weight_column
    kinds = {"fix_tags": arguments.fix_tags, "drop_unlabelled": arguments.drop_unlabelled}
    flags = file_flags.given(arguments)
    if arguments.prediction_sets is not None:
        kinds["sets"] = (arguments.prediction_sets, arguments.class_conditional)
    result = evaluate(arguments.workdir, arguments.dataset, *columns, **kinds, file_flags=flags)
    if not arguments.json:
        reads_text = read_model_info(files.absolute(arguments.workdir)).input == "text"
        _print_result(result, may_be_known=reads_text and arguments.dataset is not None)
    print(strict_json.dumps(result))
    return 0


def _print_result(result: dict[str, float], may_be_known: bool) -> None:
    _print_metrics(result, may_be_known)
    if "set_coverage" in result:
        print(
            f"sets      {result['set_coverage']:.4f} hold the true class ({result['set_coverage_worst_class']:.4f} of "
            f"the worst class), {result['set_size']:.2f} classes on average, one in {result['set_single']:.1%}"
        )


def _print_metrics(result: dict[str, float], may_be_known: bool) -> None:
    print(f"examples  {result['examples']:,}")
    if "loss" in result:
        print(f"loss      {result['loss']:.4f}")
    if "f1" in result or "mse" in result:
        from zoo.metrics import evaluation_report

        if "left_out" in result:
            print(f"left out  {result['left_out']:,}, which the run was trained on or chosen by")
        elif may_be_known:
            print("left out  unknown, as the run's own texts cannot be read: it may have been trained on some of these")
        print(evaluation_report.report(result))
        return
    interval = ""
    if "accuracy_low" in result:
        interval = f" (95 % interval: {result['accuracy_low']:.4f} to {result['accuracy_high']:.4f})"
    print(f"accuracy  {result['accuracy']:.4f}{interval}")
