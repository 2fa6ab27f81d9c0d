"""TENT (`--learner=tent`): entropy minimisation on confident examples.

Wang et al., "Tent: fully test-time adaptation by entropy minimization", 2021: section 3 has the method, section 4 the
optimizer and learning rate. The margin that an example's entropy must stay below is that of EATA (Niu et al., 2022).

The entropy loss itself is `EntropyLoss` in losses.py, the loop that takes its steps `Parameters` in parameters.py; here
are TENT's settings, which are the defaults of the loss.
"""

from zoo.adaptation.stages.losses import EntropyLoss

TENT = EntropyLoss()
