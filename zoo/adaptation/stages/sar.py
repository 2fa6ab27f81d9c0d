"""SAR (`--learner=sar`): sharpness-aware entropy minimisation, with a reset when the model collapses.

Niu et al., "Towards stable test-time adaptation in dynamic wild world", 2023: section 4 has the method, section 5 the
settings. The paper's floor of 0.2 nats, for a thousand classes, is 0.029 of the largest entropy.

The loss itself is `EntropyLoss` in losses.py, the loop that takes its steps `Parameters` in parameters.py; here are the
settings of SAR.
"""

from zoo.adaptation.stages.losses import EntropyLoss

SAR = EntropyLoss("momentum", 2.5e-4, radius=0.05, floor=0.029)
