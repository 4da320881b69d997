"""Changes to valid files: to their bytes, and to what the bytes mean. Everything follows from one random generator."""

from __future__ import annotations

import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]

MAX_BYTES = 2**20
"""A mutated file is cut to this size; bombs are small files."""

INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (
    "0", "-1", "1", "2", "3.5", "-0.0", "1e308", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", "nan",
    "inf", "2147483648", "9223372036854775807", "18446744073709551616", "9" * 400, "9" * 5000, "1_0", "٣", "true",
)  # fmt: skip
STRINGS = (
    "", " ", "\\u0000", "\\ud800", "\\udfff\\ud800", "a" * 300, "a" * 70_000, "../../etc/passwd", "/etc/passwd", ".",
    "..", "a/b", "\\n", "\\u001b[31m", "\\u202e", "é", "е́", "𝔸", "<new1>", "{}", "{0.__class__}", "%s%n", "[red]",
)  # fmt: skip
TEXTS = tuple(STRINGS) + NUMBERS + (
    "\0", "\n", "\r\n", "\r", "\u2028", "\x1b[2J", "\x85", "\ufeff", '"', "'", "\\", ",", ";", "\t", "{", "}", "[", "]",
    "(", ")", "null", "#", "=", ":", "$", "`", '"""', "\udce9", "[" * 3000, "(" * 3000, "{" * 3000, '{"a":' * 5000,
    "[" * 20_000, "\n" * 3000, "-" * 9000, "a." * 3000, "1+" * 3000, " " * 3000, "x" * 200_000, ",a" * 3000,
)  # fmt: skip

OPERATIONS = (
    b"N", b"K\x00", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"]", b"}", b")",
    b"G\x7f\xf0" + b"\0" * 6, b"X\x01\0\0\0a", b"\x85", b"\x86", b"R", b"0", b"2", b"b", b"s", b"Q", b"h\x00",
    b"(" * 5000, b"]" * 5000,
)  # fmt: skip
CLASSES = (
    b"ctorch\nFloatStorage\n", b"ctorch\nLongStorage\n", b"ctorch\nQInt8Storage\n", b"cos\nsystem\n",
    b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n", b"ctorch\ndevice\n", b"ctorch\nfloat16\n",
)  # fmt: skip
"""What pickles do and name."""


def mutated(rng: Random, seeds: Sequence[bytes], mutators: Sequence[Mutator]) -> bytes:
    """One of the seeds after one to four changes, each by one of the mutators or to its bytes alone."""
    content = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        mutator = rng.choice((*mutators, *mutators, change_bytes))
        try:
            content = mutator(rng, content)
        except (ValueError, KeyError, IndexError, TypeError, struct.error, zipfile.BadZipFile, zlib.error, EOFError,
                RecursionError, NotImplementedError, RuntimeError, OverflowError, OSError):  # fmt: skip
            content = change_bytes(rng, content)  # it is no file of that kind any more
    if rng.random() < 0.03:
        content = splice(rng, content, rng.choice(seeds))
    return content[:MAX_BYTES]


def splice(rng: Random, content: bytes, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return content[: _place(rng, content)] + other[_place(rng, other) :]


def change_bytes(rng: Random, content: bytes) -> bytes:
    """Bytes flipped, removed, repeated, overwritten with odd integers, or cut off."""
    a = _place(rng, content)
    b = min(len(content), a + rng.choice((1, 2, 4, 8, 30, 1000)))
    kind = rng.randrange(7)
    if kind == 0:
        return content[:a]
    if kind == 1:
        return content[:a] + content[b:]
    if kind == 2:
        return content[:a] + content[a:b] * rng.choice((2, 3, 300)) + content[b:]
    if kind == 3:
        number = struct.pack(">Q", rng.choice(INTEGERS))[-rng.choice((1, 2, 4, 8)) :]
        return content[:a] + (number if rng.random() < 0.5 else number[::-1]) + content[a + len(number) :]
    if kind == 4:
        return content[:a] + rng.randbytes(b - a) + content[b:]
    if kind == 5:
        return content[:a] + rng.randbytes(rng.choice((1, 4, 64))) + content[a:]
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if flipped:
            flipped[_place(rng, content) % len(flipped)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def change_text(rng: Random, content: bytes) -> bytes:
    """Numbers, words and lines replaced, repeated or removed, and odd texts put in."""
    kind = rng.randrange(6)
    text = content.decode("utf-8", "surrogateescape")
    if kind == 0 and (found := list(re.finditer(r"-?\d+(\.\d+)?", text))):
        match = rng.choice(found)
        text = text[: match.start()] + rng.choice(NUMBERS) + text[match.end() :]
    elif kind == 1 and (found := list(re.finditer(r"\w+", text))):
        match = rng.choice(found)
        text = text[: match.start()] + rng.choice(TEXTS) + text[match.end() :]
    elif kind == 2:
        lines = text.split("\n")
        line = rng.randrange(len(lines))
        lines[line : line + 1] = [lines[line]] * rng.choice((0, 2, 2, 1000))
        text = "\n".join(lines)
    elif kind == 3 and rng.random() < 0.2:
        return rng.choice(
            (text.encode("utf-16", "replace"), text.encode("latin-1", "replace"), b"\xef\xbb\xbf" + content)
        )
    else:
        place = _place(rng, text)
        text = text[:place] + rng.choice(TEXTS) + text[place:]
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


def change_json(rng: Random, content: bytes) -> bytes:
    """Values and keys of JSON, or of lines of JSON, replaced by others of any type, removed, repeated or nested."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    try:
        whole = json.loads(content)
    except ValueError:
        lines[place] = _with_odd_json(rng, json.loads(lines[place])).encode("utf-8", "surrogatepass")
        return b"\n".join(lines)
    return _with_odd_json(rng, whole).encode("utf-8", "surrogatepass")


def _with_odd_json(rng: Random, value: Any) -> str:
    """JSON with one change somewhere inside; the odd value is put in as text, since not every one can be dumped."""
    mark, whole = "@@odd@@", [value]
    places: list[tuple[Any, Any]] = [(whole, 0)]
    for holder, key in places:  # which grows
        inner = holder[key]
        if len(places) < 5000 and isinstance(inner, dict | list):
            places += [(inner, each) for each in (inner if isinstance(inner, dict) else range(len(inner)))]
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    odd = _odd_json(rng)
    if kind == 0 and holder is not whole:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice((mark, key + "x", "")) if rng.random() < 0.7 else rng.choice(STRINGS)] = holder.pop(key)
        odd = f'"{rng.choice(STRINGS)}"'
    elif kind == 2 and isinstance(holder, dict):  # the key twice
        holder[mark] = holder[key]
        odd = json.dumps(key)
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((0, 2, 3000 if len(str(holder[key])) < 300 else 2))
    elif kind == 5 and len(places) > 1:
        other, name = rng.choice(places[1:])
        holder[key] = json.loads(json.dumps(other[name]))
    else:
        holder[key] = mark
    return json.dumps(whole[0], ensure_ascii=rng.random() < 0.5).replace(f'"{mark}"', odd)


def _odd_json(rng: Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return f'"{rng.choice(STRINGS)}"'
    if kind == 2:
        depth = rng.choice((1, 3, 900, 5000))
        return rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth))
    return rng.choice(("null", "true", "false", "[]", "{}", "[null]", '{"":null}', "[0]", '["a"]', "[[1,2],[3]]"))


def change_png(rng: Random, content: bytes) -> bytes:
    """Chunks changed, lost, repeated and in another order, with right checksums; odd headers; other lengths."""
    if not content.startswith(b"\x89PNG"):
        return change_bytes(rng, content)
    chunks, place = [], 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    i, kind = rng.randrange(len(chunks)), rng.randrange(7)
    name, body = chunks[i]
    if kind == 0:
        chunks[i] = (name, change_bytes(rng, body))
    elif kind == 1:
        width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
        size = [rng.choice((0, 1, width, height, 28, 4096, 65535, 2**31 - 1)) for _ in range(2)]
        rest[0], rest[1] = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 7))
        rest[4] = rng.choice((0, 0, 1, 2))
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *size, *rest))
    elif kind == 2:
        chunks[i : i + 1] = [chunks[i]] * rng.choice((0, 2, 50))
    elif kind == 3:
        j = rng.randrange(len(chunks))
        chunks[i], chunks[j] = chunks[j], chunks[i]
    elif kind == 4:
        odd = rng.choice(
            (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"cHRM")
        )
        text = rng.choice(
            (b"", b"\0" * 8, b"a\0\0" + zlib.compress(b"a" * 3 * 10**6), rng.randbytes(40), b"Exif\0\0MM")
        )
        chunks.insert(i, (odd, text))
    elif kind == 5:
        pixels = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
        chunks[i] = (b"IDAT", zlib.compress(rng.choice((pixels[:-1], pixels * 2, b"", b"\x07" * len(pixels)))))
    else:
        chunks[i] = (rng.choice((b"IDAT", b"IEND", b"IHDR", b"abcd", b"\0\0\0\0")), body)
    joined = b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return content[:8] + joined


def change_safetensors(rng: Random, content: bytes) -> bytes:
    """The header's names, types, shapes, offsets and metadata, with a length that fits or not; odd numbers."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    kind = rng.randrange(5)
    if kind == 0:  # plausible numbers that do not belong together
        items = json.loads(header)
        entry = items[rng.choice([name for name in items if name != "__metadata__"])]
        odd = rng.choice((0, -1, 1, 4, len(data), len(data) + 1, 2**31, 2**62, 2**64 - 1))
        if rng.random() < 0.4:
            entry["data_offsets"][rng.randrange(2)] = odd
        elif rng.random() < 0.5:
            entry["shape"] = rng.choice(([], [0], [odd], [*entry["shape"], 1], [1] * 300, [odd, odd], [2**33, 0]))
        else:
            entry["dtype"] = rng.choice(("F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "f32", "X"))
        header = json.dumps(items).encode()
    elif kind == 1:
        size = rng.choice((1, 4, 16))
        start = rng.randrange(max(1, len(data) - size))
        data = (
            data[:start]
            + rng.choice((b"\x00\x00\xc0\x7f" * 4, b"\xff" * 16, rng.randbytes(16)))[:size]
            + data[start + size :]
        )
    elif kind == 2 and '"config"' in (text := header.decode()):  # JSON inside JSON
        items = json.loads(text)
        inner = change_json(rng, str(items["__metadata__"]["config"]).encode())
        items["__metadata__"]["config"] = inner.decode("utf-8", "replace")
        header = json.dumps(items).encode()
    else:
        header = change_json(rng, header)
    length = len(header) if rng.random() < 0.9 else rng.choice(INTEGERS)
    return (length % 2**64).to_bytes(8, "little") + header + data


def change_zip(rng: Random, content: bytes) -> bytes:
    """The members of an archive, such as torch.save makes: their content, names, number and compression."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    i, kind = rng.randrange(len(members)), rng.randrange(6)
    name, body = members[i]
    if kind < 3:
        pickles = [n for n, (path, _) in enumerate(members) if path.endswith(".pkl")]
        i = rng.choice(pickles) if pickles and rng.random() < 0.8 else i
        members[i] = (members[i][0], change_pickle(rng, members[i][1]))
    elif kind == 3:
        members[i : i + 1] = [members[i]] * rng.choice((0, 2))
    elif kind == 4:
        members[i] = (rng.choice((name.upper(), "../" + name, "x", "constants.pkl", "code/x.py", name + "\n")), body)
    else:
        members[i] = (name, rng.choice((b"", body[:-1], body * 2, b"\0" * 2**22, rng.randbytes(len(body)))))
    made = io.BytesIO()
    with (
        zipfile.ZipFile(
            made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        ) as archive,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, body in members:
            archive.writestr(name, body)
    return made.getvalue()


def change_pickle(rng: Random, content: bytes) -> bytes:
    """Odd operations and numbers in a pickle; names of classes and of types replaced."""
    kind = rng.randrange(4)
    if kind == 0:
        a = _place(rng, content)
        return content[:a] + rng.choice(OPERATIONS) + content[a:]
    if kind == 1:
        match = rng.choice(list(re.finditer(rb"c[\w.]+\n\w+\n", content)))
        return content[: match.start()] + rng.choice(CLASSES) + content[match.end() :]
    if kind == 2:  # shapes, strides and numbers of elements
        found = list(re.finditer(rb"K.|M..", content, re.DOTALL))
        match = rng.choice(found)
        odd = rng.choice(
            (
                b"K\x00",
                b"K\x01",
                b"M\xff\xff",
                b"J\xff\xff\xff\x7f",
                b"J\xff\xff\xff\xff",
                b"\x8a\x06\0\0\0\0\0\x10",
                b"N",
            )
        )
        return content[: match.start()] + odd + content[match.end() :]
    return change_bytes(rng, content)


def _place(rng: Random, content: Sequence[Any]) -> int:
    """A place anywhere, or, half of the time, near the beginning, where headers are."""
    most = len(content)
    return rng.randint(0, min(most, 64) if rng.random() < 0.5 else most)
