"""Tiny plain PNG files, thousands at a time: what Pillow does for one image, done for all of a batch in numpy.

For 28 x 28 pixels nine tenths of Pillow's 70 microseconds are Python around the decoder, which no thread can share; this takes 15. It receives the
bytes of files and returns their pixels, for the simplest kind of PNG only (8 bits, grey or RGB, of exactly the shape wanted, one data chunk and
nothing else); every other file, and every damaged one, is Pillow's. The format is that of the PNG specification, third edition, sections 5, 7 and 9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from convscope.data.decode import Shape

MOST_PIXELS = 32 * 32  # unfiltering goes from pixel to pixel over all images at once: quick while images are many and small
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}  # channels to the header's colour type: greyscale, truecolour
SPARE_BYTES = 1024  # deflate makes data that cannot be compressed a little longer; a file longer than this is none of these


class PlainPng:
    """Reads PNG files of one shape.

    Args:
        shape: channels (1 or 3), height and width; height times width at most MOST_PIXELS.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._stride = 1 + shape.width * shape.channels  # a row: its filter, then its bytes
        header = struct.pack(">IIBBBBB", shape.width, shape.height, 8, COLOUR_TYPES[shape.channels], 0, 0, 0)
        self._start = SIGNATURE + _chunk(b"IHDR", header)
        self._end = _chunk(b"IEND", b"")
        self._longest = self._stride * shape.height + SPARE_BYTES

    def rows(self, content: bytes) -> bytes | None:
        """The rows of a file, still filtered; None when the file is not of this kind, or damaged."""
        start = len(self._start)
        if not content.startswith(self._start) or content[start + 4 : start + 8] != b"IDAT" or len(content) > self._longest:
            return None
        stop = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if content[stop + 4 :] != self._end or zlib.crc32(content[start + 4 : stop]) != int.from_bytes(content[stop : stop + 4], "big"):
            return None
        try:
            rows = zlib.decompress(content[start + 8 : stop])
        except zlib.error:
            return None
        if len(rows) != self._stride * self.shape.height or max(rows[:: self._stride]) >= len(FILTERS):
            return None
        return rows

    def pixels(self, rows: Sequence[bytes]) -> npt.NDArray[np.uint8]:
        """The pixels (N, C, H, W) of what `rows` returned for N files."""
        channels, height, width = self.shape
        filtered_HNS = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), height, self._stride).transpose(1, 0, 2)
        pixels_HNWC = np.empty((height, len(rows), width, channels), np.uint8)
        above_NWC = np.zeros((len(rows), width, channels), np.uint8)
        for row_NS, row_NWC in zip(filtered_HNS, pixels_HNWC, strict=True):
            row_NWC[:] = row_NS[:, 1:].reshape(row_NWC.shape)
            for kind, undo in FILTERS.items():
                (places,) = np.nonzero(row_NS[:, 0] == kind)
                if undo is not None and len(places):
                    row_NWC[places] = undo(row_NWC[places], above_NWC[places])
            above_NWC = row_NWC
        return np.ascontiguousarray(pixels_HNWC.transpose(1, 3, 0, 2))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


Row = npt.NDArray[np.uint8]  # (N, W, C): one row of N images; bytes are added modulo 256


def _undo_sub(row_NWC: Row, above_NWC: Row) -> Row:  # noqa: ARG001 (all filters have the same form)
    """Each byte was given as the difference to its left neighbour."""
    return np.cumsum(row_NWC, axis=1, dtype=np.uint8)


def _undo_up(row_NWC: Row, above_NWC: Row) -> Row:
    """Each byte was given as the difference to the one above."""
    return row_NWC + above_NWC


def _undo_average(row_NWC: Row, above_NWC: Row) -> Row:
    """Each byte was given as the difference to the mean, rounded down, of left and above."""
    row_NWC, left_NC = row_NWC.copy(), np.zeros_like(row_NWC[:, 0])
    for column in range(row_NWC.shape[1]):
        mean_NC = (left_NC.astype(np.uint16) + above_NWC[:, column]) // 2
        row_NWC[:, column] += mean_NC.astype(np.uint8)
        left_NC = row_NWC[:, column]
    return row_NWC


def _undo_paeth(row_NWC: Row, above_NWC: Row) -> Row:
    """Each byte was given as the difference to whichever of left, above and upper left is nearest to left + above - upper left."""
    row_NWC, left_NC = row_NWC.copy(), np.zeros_like(row_NWC[:, 0], np.int16)
    corner_NC = np.zeros_like(left_NC)
    for column in range(row_NWC.shape[1]):
        up_NC = above_NWC[:, column].astype(np.int16)
        to_left_NC, to_up_NC = np.abs(up_NC - corner_NC), np.abs(left_NC - corner_NC)
        to_corner_NC = np.abs(left_NC + up_NC - 2 * corner_NC)
        nearest_NC = np.where(to_up_NC <= to_corner_NC, up_NC, corner_NC)
        nearest_NC = np.where((to_left_NC <= to_up_NC) & (to_left_NC <= to_corner_NC), left_NC, nearest_NC)
        row_NWC[:, column] += nearest_NC.astype(np.uint8)
        left_NC, corner_NC = row_NWC[:, column].astype(np.int16), up_NC
    return row_NWC


FILTERS: dict[int, Callable[[Row, Row], Row] | None] = {0: None, 1: _undo_sub, 2: _undo_up, 3: _undo_average, 4: _undo_paeth}
