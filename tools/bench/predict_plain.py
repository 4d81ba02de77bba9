"""One clip of a video through a student, as a script is first written; stops early to time its parts."""

import argparse

STEPS = ("import", "load", "decode", "forward")


def main() -> None:
    """Prints the most likely class."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("video")
    parser.add_argument("--until", choices=STEPS, default="forward")
    arguments = parser.parse_args()
    steps = STEPS.index(arguments.until)

    import av
    import torch
    import torch.nn.functional as F

    if steps < 1:
        return
    from transfer3d import load

    student = load(arguments.checkpoint).eval()
    if steps < 2:
        return
    clip = student.clip
    with av.open(str(arguments.video)) as container:
        stream = container.streams.video[0]
        start = max((stream.frames - (clip.frames - 1) * clip.stride - 1) // 2, 0)
        wanted = range(start, start + clip.frames * clip.stride, clip.stride)
        frames = [
            torch.from_numpy(frame.to_ndarray(format="rgb24"))
            for number, frame in zip(range(wanted[-1] + 1), container.decode(stream), strict=False)
            if number in wanted
        ]
    if steps < 3:
        return
    images = torch.stack(frames).permute(0, 3, 1, 2).float()
    scale = clip.size / min(images.shape[-2:])
    sides = [round(side * scale) for side in images.shape[-2:]]
    images = F.interpolate(images, sides, mode="bilinear", antialias=True)
    top, left = ((side - clip.size) // 2 for side in sides)
    images = images[..., top : top + clip.size, left : left + clip.size] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (clip.mean, clip.std))
    with torch.inference_mode():
        scores = student(((images - mean) / std).transpose(0, 1)[None]).softmax(-1)[0]
    print(int(scores.argmax()), float(scores.max()))


if __name__ == "__main__":
    main()
