"""Files of every kind, damaged in many ways; run as a program it tells what became of thousands of them.

python -m tests.media.malformed 1000 [FIRST_SEED]
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

import pillow_heif
from PIL import Image

from remora_server.core.ports import PreviewerLostError, PreviewRefusedError
from remora_server.media.decoders import IMAGE_FORMATS
from remora_server.media.pool import Pool
from tests.media.making import encoded, film, half_and_half, pages, sound
from tests.media.sources import Bytes


@cache
def samples() -> Sequence[tuple[str, bytes]]:
    """Return small files of every kind, by their types."""
    pillow_heif.register_heif_opener()
    noise = Image.effect_noise((200, 150), 60)
    image = Image.merge("RGB", (noise, noise.rotate(90), half_and_half(200, 150).getchannel("R")))
    found = [(one, encoded(image, name)) for one, name in IMAGE_FORMATS.items()]
    found += [
        ("image/jpeg", encoded(image, "JPEG", progressive=True)),
        ("image/png", encoded(image.quantize(16), "PNG")),
        ("image/gif", encoded(image.quantize(16), "GIF", save_all=True, append_images=[image.quantize(8)])),
        ("image/webp", encoded(image, "WEBP", lossless=True)),
    ]
    found += [("image/tiff", encoded(image, "TIFF", compression=one)) for one in ("tiff_lzw", "jpeg", "tiff_deflate")]
    frames = [image.resize((160, 120)), half_and_half(160, 120), image.resize((160, 120)).rotate(180)]
    found += [
        ("video/mp4", film("mp4", "libx264", frames)),
        ("video/mp4", film("mp4", "libx265", frames)),
        ("video/webm", film("webm", "libvpx-vp9", frames)),
        ("video/webm", film("webm", "libsvtav1", frames)),
        ("video/x-matroska", film("matroska", "libvpx", frames)),
        ("video/x-msvideo", film("avi", "mpeg4", frames)),
        ("video/mpeg", film("mpegts", "mpeg2video", frames)),
        ("audio/mpeg", sound("mp3", "libmp3lame", 1)),
        ("audio/ogg", sound("ogg", "libopus", 1)),
        ("audio/flac", sound("flac", "flac", 1)),
        ("audio/mp4", sound("ipod", "aac", 1)),
        ("audio/wav", sound("wav", "pcm_s16le", 1)),
    ]
    letters = "BT /F 40 Tf 60 700 Td (Remora) Tj ET 1 0 0 rg 0 0 300 421 re f 10 w 0 0 m 500 500 300 100 20 700 c S"
    return [*found, *[("application/pdf", pages(["0 0 595 842"] * 3, letters))] * 4]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with some damage: cut, bits turned, pieces overwritten, moved or repeated, often near the head."""
    out = bytearray(data)

    def place() -> int:
        return chance.randrange(min(len(out), chance.choice([64, 512, len(out)])))

    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        kind = chance.randrange(6)
        at = place()
        if kind == 0:
            del out[max(16, at) :]
        elif kind <= 2:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            out[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", chance.randbytes(4)])
        elif kind == 4:
            out[at:at] = out[place() :][: chance.randrange(1, 64)]
        else:
            del out[at : at + chance.randrange(1, 64)]
        out = out or bytearray(data[:16])
    return bytes(out)


def malformed(count: int, first: int = 0) -> Iterator[tuple[int, str, bytes]]:
    """Return damaged files with their seeds and types; a seed always gives the same damage to the same sample."""
    for seed in range(first, first + count):
        chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        content_type, data = samples()[seed % len(samples())]
        yield seed, content_type, damaged(data, chance)


def outcome(pool: Pool, content_type: str, data: bytes) -> str:
    """Return what became of content: ready, refused or lost, with the reason."""
    try:
        pool.render(content_type, Bytes(data))
    except PreviewRefusedError as refused:
        return f"refused: {refused}"
    except PreviewerLostError as lost:
        return f"lost: {lost}"
    return "ready"


def main(count: int, first: int) -> None:
    """Try so many files and print what became of them."""
    pool, counts, slowest, peak_kib = Pool(), Counter[str](), 0.0, 0
    began = time.monotonic()
    for seed, content_type, data in malformed(count, first):
        started = time.monotonic()
        became = outcome(pool, content_type, data)
        slowest = max(slowest, time.monotonic() - started)
        ending = pool._rendering._lanes[0].last
        peak_kib = max(peak_kib, ending.peak_kib if ending else 0)
        counts[became if became == "ready" else f"{became} ({content_type.partition('/')[0]})"] += 1
        if became.startswith("lost"):
            print(f"seed {seed}, {content_type}: {became}")
    pool.close()
    for became, number in counts.most_common():
        print(f"{number:6}  {became}")
    print(
        f"{count} files in {time.monotonic() - began:.1f} s, the slowest {slowest:.2f} s, at most {peak_kib >> 10} MiB"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
