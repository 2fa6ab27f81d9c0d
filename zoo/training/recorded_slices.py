"""The slices of an exact run, recorded so that it stays exact where it goes on."""

from pathlib import Path

from zoo import files
from zoo import workdir as folders
from zoo.config import Config
from zoo.engine import slicing


def with_recorded(workdir: Path, config: Config, replicas: int) -> tuple[Config, str]:
    """The config with the slices of the folder's run, where no flag says otherwise and these replicas can share them.

    `--compile=loop` says otherwise, as it makes one program of all slices.

    Returns:
        The config, and a line to tell: the run was exact and goes on in other slices; else empty.
    """
    if config.exact is not None or config.slices or config.compile == "loop":
        return config, ""
    try:
        saved = files.read_json(workdir / folders.RUN)["config"]
        slices = int(saved.get("slices") or 0) if saved.get("exact") else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A new folder; or a damaged record, which `workdir.compare` refuses.
        return config, ""
    if not slices:
        return config, ""
    if slicing.can_share(slices, replicas * config.accumulate):
        return config.replace(exact=True, slices=slices), ""
    what = f"{slices} slices, which {replicas} devices with --accumulate={config.accumulate} cannot share"
    return config, f"the run was exact in {what}: it goes on, and from here on its last digits may differ"


def recorded(config: Config, cut: slicing.Cut) -> Config:
    """The config as it is recorded: it repeats an exact run bit for bit on other devices."""
    return config.replace(exact=True, slices=cut.slices) if cut.is_exact else config
