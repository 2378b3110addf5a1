"""Decoding video and audio: how long it lasts, how large its frames are, and one of them."""

from __future__ import annotations

import contextlib
import time
from typing import BinaryIO

import av
import av.subtitles.stream  # Otherwise loaded with the first container, when the sandbox is closed.
from av.container import InputContainer
from av.video import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from remora_server.media.content import RefusedError, Report
from remora_server.media.decoders import AUDIO_FORMATS, VIDEO_FORMATS
from remora_server.media.frames import RENDITIONS
from remora_server.media.limits import Limits
from remora_server.media.renditions import fit, show

LARGEST = max(RENDITIONS.values())
SHARE = 10  # The frame shown is a tenth in: many films begin with black.
UNKNOWN_SECONDS = 1.0  # Where it is taken if nobody knows how long the film is.
SEARCH_CPU_SECONDS = 2.0  # From a key frame on; then the newest frame has to do.
STRETCHES = (0.25, 4.0)  # Pixels of other shapes than these are a mistake.


def listen(content_type: str, file: BinaryIO, report: Report, _limits: Limits) -> None:
    """Tell how long a sound lasts."""
    with opened(AUDIO_FORMATS[content_type], file) as container:
        if not container.streams.audio:
            raise RefusedError("has no sound in it")
        _tell_duration(container, report)


def render(content_type: str, file: BinaryIO, report: Report, limits: Limits) -> None:
    """Tell how long a film lasts and how large it is, and hand over renditions of a frame."""
    container_format = VIDEO_FORMATS[content_type]
    if container_format == "mpeg":
        container_format = mpeg_format(file)
    with opened(container_format, file) as container:
        duration_ms = _tell_duration(container, report)
        film = next(iter(container.streams.video), None)
        if film is None:
            raise RefusedError("has no pictures in it")
        width, height = film.codec_context.width, film.codec_context.height
        report.facts(width=width, height=height)
        if width * height > limits.video_pixels:
            raise RefusedError(f"has {width} x {height} pixels, more than {limits.video_pixels // 1_000_000} million")
        frame = found(container, film, duration_ms)
        picture = upright(frame, film, report)
    show(picture, report)


def opened(container_format: str, file: BinaryIO) -> InputContainer:
    """Return a container whose streams were found, with decoders that start no threads."""
    container = av.open(file, "r", format=container_format, metadata_errors="replace")
    for stream in container.streams.video:
        stream.codec_context.thread_type = av.codec.context.ThreadType.NONE
        stream.codec_context.thread_count = 1
    return container


def mpeg_format(file: BinaryIO) -> str:
    """Return which of the three formats called MPEG this is."""
    begin = file.read(4)
    file.seek(0)
    if begin[:1] == b"\x47":
        return "mpegts"
    return "mpegvideo" if begin == b"\0\0\1\xb3" else "mpeg"


def _tell_duration(container: InputContainer, report: Report) -> int:
    duration_ms = max(0, round((container.duration or 0) * 1000 / av.time_base))
    report.facts(duration_ms=duration_ms)
    return duration_ms


def found(container: InputContainer, film: VideoStream, duration_ms: int) -> VideoFrame:
    """Return a frame some way in, or the first that can be decoded."""
    target = duration_ms / 1000 / SHARE if duration_ms else UNKNOWN_SECONDS
    with contextlib.suppress(av.FFmpegError):
        start = (container.start_time or 0) / av.time_base
        if target > UNKNOWN_SECONDS:
            container.seek(round((start + target) * av.time_base))
        if frame := last_until(container, film, start + target):
            return frame
    with contextlib.suppress(av.FFmpegError):
        container.seek(container.start_time or 0)
        if frame := last_until(container, film, 0.0):
            return frame
    raise RefusedError("has no frame that can be decoded")


def last_until(container: InputContainer, film: VideoStream, seconds: float) -> VideoFrame | None:
    """Return the first frame at or after a time, or the last one before it that was worth waiting for."""
    newest: VideoFrame | None = None
    began = time.process_time()
    with contextlib.suppress(av.FFmpegError):
        for frame in container.decode(film):
            newest = frame
            if frame.time is None or frame.time >= seconds or time.process_time() - began > SEARCH_CPU_SECONDS:
                break
    return newest


def upright(frame: VideoFrame, film: VideoStream, report: Report) -> Image.Image:
    """Tell how large a frame is as it is shown, and return it so: its pixels square, and turned."""
    width, height = frame.width, frame.height
    stretch = float(film.sample_aspect_ratio or 1)
    if STRETCHES[0] <= stretch <= STRETCHES[1]:
        width = round(width * stretch)
    size = fit((width, height), LARGEST)
    picture: Image.Image = frame.to_image(width=size[0], height=size[1])  # type: ignore[no-untyped-call]
    quarters = round(frame.rotation / 90) % 4
    if quarters % 2:
        width, height = height, width
    report.facts(width=width, height=height)
    return picture.rotate(90 * quarters, expand=True) if quarters else picture
