"""EATA (`--learner=eata`): entropy minimisation on examples that are confident and unlike those learned from before.

Niu et al., "Efficient test-time model adaptation without forgetting", 2022: section 3.2 has the selection of examples,
section 5.1 the settings for ten classes. The paper's Fisher regulariser is left out.

The loss itself is `EntropyLoss` in losses.py, the loop that takes its steps `Parameters` in parameters.py; here are the
settings of EATA.
"""

from zoo.adaptation.stages.losses import EntropyLoss

EATA = EntropyLoss("momentum", 5e-3, novelty=0.4)
