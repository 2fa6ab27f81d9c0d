"""Devices of a run: distribution strategy, replicas and precision."""

import collections
import contextlib
import os
from collections.abc import Iterator

import keras
import tensorflow as tf

from zoo.engine import cluster as clusters
from zoo.engine import private_apis, slicing
from zoo.engine.workers import Workers
from zoo.errors import BadInput, WorkerLost

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "bfloat16", "float16")


def strategy(name: str = "auto", cpu_devices: int = 1, worker_timeout: int = 60) -> tf.distribute.Strategy:
    """Makes the distribution strategy of a run. Call it before anything else initializes TensorFlow's devices.

    Args:
        name: one of `STRATEGIES`. `auto`: the workers in TF_CONFIG, else all GPUs, else the CPU.
        cpu_devices: logical CPU devices to make; above 1 they become the replicas, to try several without a GPU.
        worker_timeout: seconds after which a worker that does not answer, or has not started, is lost.

    Raises:
        BadInput: a device is missing, or can no longer be made as TensorFlow has started.
        WorkerLost: another worker has not started.
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
        return _multi_worker(worker_timeout)
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
    reduction = slicing.TreeReduction()
    devices = [f"CPU:{index}" for index in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def are_cpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether all devices of a strategy are CPUs."""
    try:
        devices = strategy.extended.worker_devices
    except RuntimeError:
        # TensorFlow's default strategy names none: it takes the GPU where there is one.
        return not tf.config.list_logical_devices("GPU")
    return all(":CPU:" in device for device in devices)


def workers(strategy: tf.distribute.Strategy) -> Workers:
    """The workers of a strategy from `strategy`."""
    is_multi = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return Workers(strategy, clusters.from_environment() if is_multi else None)


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
    """Lets models built and traced inside compute in float32, or in bfloat16 or float16 with float32 weights.

    Raises:
        BadInput: an unknown name.
    """
    if name not in PRECISIONS:
        raise BadInput(f"--precision is {name!r}: expected one of {', '.join(PRECISIONS)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
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


def _multi_worker(timeout: int) -> tf.distribute.Strategy:
    # Two lines for each of its collective operations, on every worker.
    tf.get_logger().setLevel("WARNING")
    workers = clusters.from_environment()
    clusters.wait_for_all(workers, timeout)
    private_apis.configure_heartbeats(collections.Counter(worker.job for worker in workers.workers), timeout)
    implementation = tf.distribute.experimental.CommunicationImplementation
    chosen = implementation.AUTO if tf.config.list_physical_devices("GPU") else implementation.RING
    options = tf.distribute.experimental.CommunicationOptions(implementation=chosen)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        line = next(iter(str(error).splitlines()), "")
        raise WorkerLost(
            f"the workers have not connected ({type(error).__name__}: {line}); start all workers again with the same "
            "command"
        ) from error


def _tpu() -> tf.distribute.Strategy:
    """Not run on a TPU: none was at hand when this was written."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise BadInput(
            f"--strategy=tpu: no TPU responds ({str(error).splitlines()[0]}); expected a TPU host"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
