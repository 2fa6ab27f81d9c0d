"""One worker of a multi-worker run: worker_run.py WORKDIR; TF_CONFIG says which."""

import sys

import zoo
from tests.helpers.small import SmallConfig, build

CONFIG = SmallConfig(
    epochs=0, steps=6, dropout=0.3, optimizer="adamw", ema=0.9, clip_norm=0.5, log_every=3, weighted=True,
    checkpoint_every=3, schedule="cosine",
)  # fmt: skip

if __name__ == "__main__":
    print(zoo.run(build, CONFIG.replace(strategy="multiworker"), sys.argv[1]))
