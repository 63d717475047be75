"""Packaging of tf_metalearn."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Bounds say what was tested: from the tested version up to the next minor one, or the next major one for libraries
# that break nothing in between. requirements.txt has the exact versions.
INSTALL_REQUIRES = [
    "tensorflow>=2.21,<2.22",
    "keras>=3.15,<3.16",
    "tensorboard>=2.21,<2.22",
    "tensorflow-serving-api>=2.21,<2.22",
    "tensorflow-datasets>=4.9.10,<4.10",
    "importlib_resources>=7.1,<8",  # tensorflow-datasets imports it without asking for it
    "numpy>=2.4,<2.5",
    "matplotlib>=3.11,<3.12",
    "scikit-learn>=1.9,<1.10",
    "pillow>=13,<14",
    "scipy>=1.17,<1.18",
    "click>=8.5,<8.6",
    "rich>=15,<16",
    "tomlkit>=0.15,<0.16",
]

EXTRAS_REQUIRE = {
    # What `make bench` compares with, in an environment of its own.
    "peers": ["jax>=0.10,<0.11", "jaxlib>=0.10,<0.11", "torch>=2.13,<2.14"],
    # What `make docs` needs, in another environment.
    "docs": ["furo>=2025.12.19,<2026", "myst-nb>=1.4,<1.5", "sphinx>=9.0,<9.1"],
    "dev": [
        "ipykernel>=7.4,<8",  # with nbclient, for the tutorials
        "mypy>=2.4,<2.5",
        "nbclient>=0.11,<0.12",
        "psutil>=7.2,<8",
        "pytest>=9.2,<10",
        "pytest-xdist>=3.8,<4",
        "ruff>=0.17.6,<0.18",
        "setuptools>=84.2,<85",
    ],
}

setup(
    name="tf-metalearn",
    version="0.1.0",
    description="Meta-learning with Keras: learned optimizers and few-shot learners around one differentiable loop",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tf_metalearn", "tf_metalearn.*"]),
    package_data={"tf_metalearn": ["py.typed", "pretrained/*.keras", "pretrained/*.md", "episodes/splits/*/*.txt"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["tf-metalearn = tf_metalearn.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
