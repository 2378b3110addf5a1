"""How much one piece of content may cost before it is given up."""

from __future__ import annotations

from remora_server.core.values import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one job. Those of time are its worker's: that a blob store is slow is no fault of the content."""

    memory_bytes: int = 512 * MIB  # Beyond what a worker that decoded nothing yet has.
    cpu_seconds: int = 10
    wall_seconds: float = 12.0
    reading_seconds: float = 30.0  # Of a blob store, beside those.
    measure_seconds: float = 1.0  # Of everything: an upload waits.
    start_seconds: float = 20.0  # Until a worker has loaded its decoders.
    silence_seconds: float = 10.0  # After a worker for measuring was lost, uploads don't wait for the next one.
    read_bytes: int = 512 * MIB
    pixels: int = 64_000_000  # At four bytes each and with what is made of them, about what memory allows.
    scaled_pixels: int = 400_000_000  # Of a JPEG, which is decoded at a fraction of its size.
    video_pixels: int = 36_000_000  # 8192 x 4352 is what the largest profiles allow; a decoder keeps several frames.
