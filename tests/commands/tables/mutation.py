"""Tables with random damage, in every format."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import pandas as pd

PIECES = [
    *(
        b",",
        b";",
        b"\t",
        b"|",
        b'"',
        b'""',
        b"'",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xff",
    ),
    *(
        b"\xc3\xa4",
        b"\xe2\x80\xaf",
        b"nan",
        b"NA",
        b"None",
        b"inf",
        b"-",
        b"1e999",
        b"1.234,5",
        b"1,234",
        b"007",
        b"=",
        b"age",
    ),
    *(b"2026-01-05", b"31.12.2026", b"9" * 40, b"{", b"}", b"[", b"\\ud800", b"null", b"sep=;\n", b"True", b"x" * 200),
]
"""What is put into a table: marks, words and bytes that readers stumble over."""


def rows(random_: random.Random) -> list[dict[str, object]]:
    """A small table with a column of every type."""
    return [
        {
            "prediction_id": f"p{row}",
            "age": random_.randrange(18, 80),
            "income": round(random_.gauss(100, 30), 2),
            "member": random_.random() < 0.5,
            "channel": random_.choice(["web", "shop", "NA", ""]),
            "outcome": random_.choice(["good", "bad"]),
            "observed_at": "2026-01-05T09:00:00Z",
        }
        for row in range(random_.randrange(30))
    ]


def written(table: list[dict[str, object]], suffix: str, random_: random.Random) -> bytes:
    """The bytes of a table in the format of a suffix."""
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in table).encode()
    if suffix == ".parquet":
        content = io.BytesIO()
        pd.DataFrame(table, columns=list(table[0]) if table else ["age"]).to_parquet(content)
        return content.getvalue()
    mark = random_.choice(",,;\t|")
    lines = [mark.join(table[0]) if table else "age"] + [mark.join(map(str, row.values())) for row in table]
    return (
        random_.choice(["\n", "\r\n", "\r"])
        .join(lines)
        .encode(random_.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    )


def damaged(content: bytes, random_: random.Random) -> bytes:
    """The bytes after a few random changes."""
    for _ in range(random_.randrange(5)):
        start = random_.randrange(len(content) + 1)
        end = min(len(content), start + random_.choice([0, 0, 1, 5, 50]))
        piece = random_.choice([b"", content[start:end] * 2, *random_.choices(PIECES, k=4), random_.randbytes(3)])
        content = content[:start] + piece + content[end:]
    return content[: random_.randrange(len(content) + 1)] if random_.random() < 0.1 else content


def write_damaged(folder: Path, seed: int) -> Path:
    """Write one damaged table; the seed decides on everything."""
    random_ = random.Random(seed)
    suffix = random_.choice([".csv", ".csv", ".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".zip"])
    content = damaged(written(rows(random_), suffix, random_), random_)
    if suffix == ".csv.gz":
        content = gzip.compress(content) if random_.random() < 0.5 else damaged(gzip.compress(content), random_)
    file = folder / f"table{suffix}"
    file.write_bytes(content)
    return file
