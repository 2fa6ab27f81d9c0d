"""The result of a run: the network's share, test metrics of the exported weights, model.keras, result.json."""

from zoo import files, strict_json
from zoo import workdir as folders
from zoo.metrics import confusion, evaluation_report
from zoo.metrics.decisions import Decision
from zoo.training import actions, decision, diagnosis, network_share, weights
from zoo.training.context import RunContext
from zoo.training.run_state import RunState


def finish(context: RunContext, state: RunState) -> dict[str, float]:
    """Chooses the network's share and decision rule, evaluates the test sets, exports the model, writes result.json.

    Returns:
        `step` and the last metrics, with those of the exported weights.
    """
    actions.save(context, state)
    with weights.exchanged(context.engine, weights.exported(context, state)):
        # Until here the share is the first one, so that a run that is continued is the run in one piece.
        tuned = network_share.tune(context)
        result = {"step": state.step, **state.metrics} | tuned
        rule = decision.tune(context)
        result |= _final_metrics(context, state, rule)
        context.reporter.writer.points()
        if context.is_chief:
            # Before the export and the baseline, which may fail: the result is not lost by them.
            _write(context, result)
            weights.export(context, rule)
    if context.is_chief:
        if context.experiment.baseline is not None:
            result |= context.experiment.baseline()
            _write(context, result)
        _print_tests(context, state, result)
        if fit := diagnosis.words(state.curve, context.config):
            context.reporter.tell(state.step, f"the run {fit}")
        if context.experiment.conclusion is not None:
            for line in context.experiment.conclusion(result):
                context.reporter.progress.say(line)
    return result


def _write(context: RunContext, result: dict[str, float]) -> None:
    files.write(context.workdir / folders.RESULT, strict_json.dumps(result, indent=1) + "\n")


def _final_metrics(context: RunContext, state: RunState, rule: Decision | None) -> dict[str, float]:
    """Metrics of the test sets; of the validation sets too, where the exported model is not the last one evaluated."""
    metrics: dict[str, float] = {}
    if context.config.exports_best:
        metrics["best/step"] = state.best.step
    if context.config.exports_best or context.experiment.tuned is not None:
        # All of the result is of the weights that are exported.
        for name, batches in context.experiment.evals.items():
            metrics |= actions.tagged(name, actions.evaluate(context, state, name, batches))
    for name, batches in context.experiment.tests.items():
        tested = actions.evaluate(context, state, name, batches, final=True, rule=rule)
        context.reporter.writer.scalars(name, state.step, tested)
        metrics |= actions.tagged(name, tested)
    return metrics


def _print_tests(context: RunContext, state: RunState, result: dict[str, float]) -> None:
    for name in context.experiment.tests:
        metrics = {tag.split("/", 1)[1]: value for tag, value in result.items() if tag.startswith(f"{name}/")}
        context.reporter.progress.line(state.step, name, evaluation_report.brief(metrics))
        if evaluation_report.lows(metrics):
            context.reporter.progress.say(evaluation_report.report(metrics))
        matrix, classes = evaluation_report.confusion_matrix(metrics)
        if classes:
            folder = context.workdir / name
            folder.mkdir(exist_ok=True)
            files.write(folder / folders.CONFUSION, confusion.as_csv(matrix, classes))
