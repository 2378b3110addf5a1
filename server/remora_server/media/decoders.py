"""Which content can be decoded: a table by sniffed type. It needs none of the decoders itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# What Pillow, or pillow-heif as its plugin, calls each kind of image: nothing but this one decoder gets the bytes.
IMAGE_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "image/jpeg": "JPEG",
        "image/png": "PNG",
        "image/gif": "GIF",
        "image/webp": "WEBP",
        "image/avif": "AVIF",
        "image/heic": "HEIF",
        "image/heif": "HEIF",
        "image/tiff": "TIFF",
        "image/bmp": "BMP",
    }
)
# What FFmpeg calls each container. Left to guess, it would also try those that speak of other files and of URLs.
VIDEO_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "video/mp4": "mov",
        "video/quicktime": "mov",
        "video/webm": "matroska",
        "video/x-matroska": "matroska",
        "video/x-msvideo": "avi",
        "video/mpeg": "mpeg",
    }
)
AUDIO_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "audio/mpeg": "mp3",
        "audio/wav": "wav",
        "audio/x-wav": "wav",
        "audio/ogg": "ogg",
        "audio/flac": "flac",
        "audio/mp4": "mov",
    }
)
# Content type -> what there is to show. Of AUDIO there are facts, but no picture.
RENDERED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(IMAGE_FORMATS, "IMAGE"),
        "application/pdf": "PDF",
        **dict.fromkeys(VIDEO_FORMATS, "VIDEO"),
        **dict.fromkeys(AUDIO_FORMATS, "AUDIO"),
    }
)
