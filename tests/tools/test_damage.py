"""The measuring of damage: whole files are the same under every setting, damaged ones are found."""

import numpy as np
import pytest
from media import encode, numbered_frames

from transfer3d.data import container


@pytest.fixture
def damage():
    import damage

    return damage


def job(damage, file, sound):
    return damage.Job(file, damage.digests_of(sound))


def test_outcomes_are_told_apart(damage):
    sound = encode(numbered_frames(12), container="avi", codec="mjpeg", pix_fmt="yuvj420p")
    shorter = encode(numbered_frames(8), container="avi", codec="mjpeg", pix_fmt="yuvj420p")
    other = encode(numbered_frames(24)[12:], container="avi", codec="mjpeg", pix_fmt="yuvj420p")
    before = dict(container.CODEC_OPTIONS)
    for file, outcome in (
        (sound, "same pixels"),
        (shorter, "fewer frames"),
        (other, "other pixels"),
        (sound[: len(sound) // 2], "refused"),
    ):
        assert set(damage.outcomes(job(damage, file, sound), damage.SETTINGS)) == {outcome}
    assert before == container.CODEC_OPTIONS


def test_a_seed_makes_the_same_mutants_and_most_are_damaged(damage):
    file = bytes(range(256)) * 20
    made = [[damage.mutant(file, rng) for _ in range(50)] for rng in map(np.random.default_rng, (0, 0, 1))]
    assert made[0] == made[1] != made[2]
    assert sum(mutant != file for mutant in made[0]) > 45


def test_a_damaged_motion_jpeg_is_refused_where_ffmpeg_would_mend_it(damage):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    sound = encode(noise, container="avi", codec="mjpeg", pix_fmt="yuvj420p")
    refused = {"as it is": 0, "FFmpeg's own": 0}
    for _ in range(40):
        data = bytearray(sound)
        data[int(rng.integers(len(sound) // 3, len(sound) * 2 // 3))] ^= 1 << int(rng.integers(8))
        settings = {name: damage.SETTINGS[name] for name in refused}
        for name, outcome in zip(
            refused, damage.outcomes(job(damage, bytes(data), sound), settings), strict=False
        ):
            refused[name] += outcome == "refused"
    assert refused["as it is"] > refused["FFmpeg's own"]
