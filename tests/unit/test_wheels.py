from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT

#: What every Linux with glibc has, and its loader finds: on Nix as well.
GLIBC = re.compile(r"ld-linux-[\w-]+|lib(c|dl|m|pthread|resolv|rt|util)")
#: The shared library that libstdc++ loads itself.
LIBGCC = "libgcc_s.so.1"
#: Of the ELF format: kinds of segments, and tags in the dynamic one.
LOAD, DYNAMIC = 1, 2
NEEDED, STRINGS = 1, 5


@pytest.mark.skipif(sys.platform != "linux", reason="wheels for macOS bring all that they need")
def test_compiled_packages_need_no_library_that_the_nix_shell_does_not_give() -> None:
    given = set(re.findall(r"/lib/(lib[^/\"]+\.so\.\d+)\"", (CHECKOUT / "flake.nix").read_text(encoding="utf-8"))) | {LIBGCC}
    packages = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages")
    modules = [path for path in packages.rglob("*.so*") if path.read_bytes()[:4] == b"\x7fELF"]
    brought = {path.name for path in modules}

    asked = {name: path for path in modules for name in needed(path.read_bytes()) if name not in brought}
    foreign = {name: str(path.relative_to(packages)) for name, path in asked.items() if not GLIBC.match(name)}

    assert set(foreign) <= given, foreign


def needed(elf: bytes) -> Iterator[str]:
    """Return the names of the libraries that a 64-bit ELF file asks its loader for."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    # Type, offset in the file, address in memory, size in the file.
    segments = [struct.unpack_from("<I4xQQ8xQ", elf, start + number * size) for number in range(count)]
    entries = [
        struct.unpack_from("<QQ", elf, offset + position)
        for kind, offset, _, length in segments
        if kind == DYNAMIC
        for position in range(0, length, 16)
    ]
    (address,) = {value for tag, value in entries if tag == STRINGS}
    (strings,) = {
        offset + address - memory for kind, offset, memory, length in segments if kind == LOAD and memory <= address < memory + length
    }
    for tag, value in entries:
        if tag == NEEDED:
            yield elf[strings + value : elf.index(b"\0", strings + value)].decode()
