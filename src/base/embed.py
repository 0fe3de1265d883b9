#!/usr/bin/env python3
"""Turns a file into a C array: embed.py NAME INPUT OUTPUT defines NAME and NAME_len."""

import sys


def main() -> None:
    name, source, target = sys.argv[1:4]
    with open(source, "rb") as f:
        data = f.read()
    rows = [
        ", ".join(str(byte) for byte in data[start : start + 20])
        for start in range(0, len(data), 20)
    ]
    with open(target, "w", encoding="ascii") as f:
        f.write("#include <stddef.h>\n")
        f.write(f"extern const unsigned char {name}[];\nextern const size_t {name}_len;\n")
        f.write(f"const unsigned char {name}[] = {{\n" + ",\n".join(rows or ["0"]) + "\n};\n")
        f.write(f"const size_t {name}_len = {len(data)};\n")


main()
