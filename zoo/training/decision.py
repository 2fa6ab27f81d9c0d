"""The decision rule that is tuned on the validation split after training, for `--cost` and `--threshold_for`."""

from zoo.errors import BadInput
from zoo.metrics import decisions, label_thresholds
from zoo.metrics.decisions import Decision
from zoo.metrics.label_thresholds import LabelGoal, LabelThresholds
from zoo.training.context import RunContext


def tune(context: RunContext) -> Decision | LabelThresholds | None:
    """Tunes the rule on the first validation set, with the weights that the model has now, and says what it is.

    Returns:
        None where the experiment asks for none.

    Raises:
        BadInput: the experiment's `forward` does not return the logits, or there is no validation set.
    """
    goal, evals = context.experiment.decision, context.experiment.evals
    if goal is None:
        return None
    if not evals:
        raise BadInput("the experiment has no validation set to tune its decisions on; expected one in evals")
    batches = next(iter(evals.values()))
    outputs = context.engine.evaluate_with_outputs(batches)[1]
    if "logits" not in outputs:
        raise BadInput("forward returns no zoo.terms.Output named 'logits', which Experiment(decision=...) needs")
    tuned = label_thresholds.tune if isinstance(goal, LabelGoal) else decisions.tune
    rule, text = tuned(goal, outputs["logits"], batches.columns["y"], batches.columns.get("weight"))
    context.reporter.progress.say(text)
    return rule
