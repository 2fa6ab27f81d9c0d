"""TENT (`--learner=tent`): entropy minimisation on confident examples.

Wang et al., "Tent: fully test-time adaptation by entropy minimization", 2021: section 3 has the method, section 4 the
optimizer and learning rate. The margin that an example's entropy must stay below is that of EATA (Niu et al., 2022).
"""

from zoo.adaptation.stages.losses import EntropyLoss

TENT = EntropyLoss()
