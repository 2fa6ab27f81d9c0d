"""Devices of a run: distribution strategy, replicas and precision."""

import contextlib
import json
import os
from collections.abc import Iterator

import keras
import tensorflow as tf

from zoo.errors import BadInput

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "bfloat16")


def strategy(name: str = "auto", cpu_devices: int = 1) -> tf.distribute.Strategy:
    """Makes the distribution strategy of a run. Call it before anything else initializes TensorFlow's devices.

    Args:
        name: one of `STRATEGIES`. `auto`: the workers in TF_CONFIG, else all GPUs, else the CPU.
        cpu_devices: logical CPU devices to make; above 1 they become the replicas, to try several without a GPU.

    Raises:
        BadInput: a device is missing, or can no longer be made as TensorFlow has started.
    """
    if name not in STRATEGIES:
        raise BadInput(f"--strategy is {name!r}: expected one of {', '.join(STRATEGIES)}")
    if cpu_devices > 1:
        if name not in ("auto", "cpu", "mirrored"):
            raise BadInput(f"--cpu_devices is {cpu_devices} and --strategy is {name}: expected auto, cpu or mirrored")
        _make_logical_cpus(cpu_devices)
        return mirrored_cpus(cpu_devices)
    if name == "tpu":
        return _tpu()
    if name == "multiworker" or (name == "auto" and "TF_CONFIG" in os.environ):
        return _multi_worker()
    gpus = tf.config.list_logical_devices("GPU")
    if name in ("gpu", "mirrored", "auto") and gpus:
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 and name != "gpu" else _one("GPU:0")
    if name == "gpu":
        raise BadInput("--strategy=gpu: TensorFlow sees no GPU; expected one (`nvidia-smi`), or use --strategy=cpu")
    if name == "mirrored":
        raise BadInput("--strategy=mirrored: one device only; expected several GPUs, or --cpu_devices=2 or more")
    return _one("CPU:0")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def useful_cores(rows: int) -> int:
    """Cores worth splitting a batch of `rows` among: fewer than eight rows do not keep a core busy."""
    return max(1, min(cores(), rows // 8))


def mirrored_cpus(replicas: int) -> tf.distribute.Strategy:
    """A strategy over the first `replicas` logical CPUs."""
    # The default collectives deadlock if one process has two groups of different size.
    reduction = tf.distribute.ReductionToOneDevice()
    devices = [f"CPU:{index}" for index in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    resolver = strategy.cluster_resolver
    return (
        resolver is None
        or resolver.task_type in (None, "", "chief")
        or (
            resolver.task_type == "worker" and not resolver.task_id and "chief" not in resolver.cluster_spec().as_dict()
        )
    )


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Lets models built and traced inside compute in float32, or in bfloat16 with float32 weights.

    Raises:
        BadInput: an unknown name; also float16, which would need loss scaling, as bfloat16 does not.
    """
    if name not in PRECISIONS:
        raise BadInput(f"--precision is {name!r}: expected one of {', '.join(PRECISIONS)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _one(device: str) -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy(f"/{device}")


def _make_logical_cpus(count: int) -> None:
    physical = tf.config.list_physical_devices("CPU")[0]
    configurations = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(physical, configurations)
    except RuntimeError:
        started = len(tf.config.list_logical_devices("CPU"))
        if started < count:
            raise BadInput(
                f"--cpu_devices is {count}: TensorFlow has started with {started}; expected that many or fewer in this "
                "process (in a notebook: restart the kernel and set it first)"
            ) from None


def _multi_worker() -> tf.distribute.Strategy:
    if "TF_CONFIG" not in os.environ:
        raise BadInput(
            "--strategy=multiworker: TF_CONFIG is not set; expected the cluster and this worker's task in it"
        )
    try:
        json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            "TF_CONFIG is not as expected: "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    ring = tf.distribute.experimental.CommunicationImplementation.RING
    implementation = (
        ring
        if not tf.config.list_physical_devices("GPU")
        else (tf.distribute.experimental.CommunicationImplementation.AUTO)
    )
    options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _tpu() -> tf.distribute.Strategy:
    """Not run on a TPU: none was at hand when this was written."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise BadInput(
            f"--strategy=tpu: no TPU responds ({str(error).splitlines()[0]}); expected a TPU host"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
