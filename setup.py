"""Build the native sampler where there is a compiler; the rest of the package is described in pyproject.toml.

The library is plain C++ behind a C interface, loaded with ctypes: it belongs to no version of Python or PyTorch, so one
wheel a platform serves all of them.
"""

import re
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FLAGS = {"msvc": ["/O2", "/std:c++17", "/EHsc"]}
OTHERS = ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-pthread", "-Wno-unknown-pragmas"]


def described(readme: str, home: str) -> str:
    """Return the README for an index of packages: its pictures and links lead to `home` or, without one, are left out.

    They are relative, which resolves in the repository alone.
    """

    def absolute(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if target.startswith(("https://", "#")):
            return found[0]
        if not home:
            return "" if picture else text
        return f"{picture}[{text}]({home}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return re.sub(r"(!?)\[([^]]*)\]\(([^)\s]+)\)", absolute, readme)


class BuildLibrary(build_ext):
    """Build a plain shared library: no module's name inside it, no Python's version in its file name."""

    def build_extension(self, ext: Extension) -> None:
        ext.extra_compile_args = FLAGS.get(self.compiler.compiler_type, OTHERS)
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        suffix = ".dll" if self.plat_name.startswith("win") else ".so"
        *package, name = fullname.split(".")
        return str(Path(*package) / ((name.removeprefix("lib") if suffix == ".dll" else name) + suffix))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols


class PlatformWheel(bdist_wheel):
    """Name the wheel after the platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


library = Extension(
    "manifill.libmanifill",
    ["native/sampler.cpp"],
    depends=[f"native/{name}.h" for name in ("vectors", "products", "network", "team", "engine")],
    language="c++",
    optional=True,  # without a compiler the package installs, and samples with PyTorch
)

if __name__ == "__main__":
    root = Path(__file__).parent
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    setup(
        ext_modules=[library],
        cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
        long_description=described((root / "README.md").read_text(encoding="utf-8"), urls.get("Homepage", "")),
        long_description_content_type="text/markdown",
    )
