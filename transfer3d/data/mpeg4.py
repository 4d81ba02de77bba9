"""Detects MPEG-4 Visual frames that are not coded, which repeat the frame before (ISO/IEC 14496-2)."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_BYTES = 20
"""Upper bound on the size of a frame's header with stuffing."""
VOP = b"\x00\x00\x01\xb6"
"""Start code of a frame (6.2.5)."""
LAYERS = tuple(b"\x00\x00\x01" + bytes([number]) for number in range(0x20, 0x30))
"""Start codes of a layer's header (6.2.3)."""


class _Bits:
    def __init__(self, content: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self._at = 0

    def read(self, count: int) -> int:
        """Reads an unsigned number of `count` bits; bits past the end are 0."""
        self._at += count
        return int(self._bits[self._at - count : self._at].ljust(count, "0") or "0", 2)


def is_packed(packet: bytes) -> bool:
    """Whether a packet contains two frames; a short packet after it is a placeholder for the second."""
    return packet.count(VOP) > 1


def not_coded(short: Mapping[int, bytes], headers: bytes) -> set[int]:
    """Returns the indices of packets without a coded frame, in a stream that is not packed.

    Args:
        short: packets of at most `LONGEST_BYTES`, by index.
        headers: bytes that contain the layer's header.
    """
    time_bits = _time_bits(headers)
    return {number for number, packet in short.items() if not _is_coded(packet, time_bits)}


def _is_coded(packet: bytes, time_bits: int) -> bool:
    """Reads `vop_coded` (6.2.5)."""
    start = packet.find(VOP)
    if start < 0:
        return False
    bits = _Bits(packet[start + 4 :])
    bits.read(2)  # vop_coding_type
    while bits.read(1):  # modulo_time_base
        pass
    bits.read(1 + time_bits + 1)  # vop_time_increment between markers
    return bool(bits.read(1))


def _time_bits(layer: bytes) -> int:
    """Returns the number of bits of a frame's time, from the layer's header (6.2.3)."""
    start = max(layer.find(code) for code in LAYERS)
    bits = _Bits(layer[start + 4 : start + 64])
    bits.read(1 + 8)  # random_accessible_vol, video_object_type_indication
    version = 1
    if bits.read(1):  # is_object_layer_identifier
        version = bits.read(4)
        bits.read(3)
    if bits.read(4) == 0b1111:  # aspect_ratio_info
        bits.read(16)
    if bits.read(1):  # vol_control_parameters
        bits.read(2 + 1)
        if bits.read(1):  # vbv_parameters
            bits.read(79)
    if bits.read(2) == 0b11 and version != 1:  # a grey-scale shape
        bits.read(4)
    bits.read(1)
    return max((bits.read(16) - 1).bit_length(), 1)  # vop_time_increment_resolution
