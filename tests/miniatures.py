"""Small copies of the layouts that datasets come in, with real encoded videos; no two files are the same."""

import json
from itertools import count
from pathlib import Path

from media import encode, numbered_frames

LENGTHS = count()


def video(path: Path, frames: int | None = None, **options) -> Path:
    """Writes a video unlike all others: its first picture carries a number of its own."""
    containers = {".mp4": ("mp4", "libx264"), ".avi": ("avi", "mpeg4"), ".webm": ("webm", "libvpx")}
    container, codec = containers[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(LENGTHS) % 200
    pictures = numbered_frames(number + (frames or 6))[number:]
    path.write_bytes(encode(pictures, container=container, codec=codec, **options))
    return path


def note(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ucf101(root: Path) -> Path:
    """Two classes, of which one is spelled otherwise in its files; three folds, test without labels."""
    names = ["Basketball", "HandstandPushups"]
    note(root / "ucfTrainTestlist" / "classInd.txt", *(f"{i + 1} {name}" for i, name in enumerate(names)))
    for group in (1, 2):
        for clip in (1, 2):
            video(root / "UCF-101" / "Basketball" / f"v_Basketball_g0{group}_c0{clip}.avi")
            video(root / "UCF-101" / "HandstandPushups" / f"v_HandStandPushups_g0{group}_c0{clip}.avi")
    for fold, (train, test) in {1: (1, 2), 2: (2, 1), 3: (1, 2)}.items():
        listed = {
            group: [f"{name}/v_{name}_g0{group}_c0{clip}.avi" for name in names for clip in (1, 2)]
            for group in (1, 2)
        }
        lines = [f"{line} {names.index(line.split('/')[0]) + 1}" for line in listed[train]]
        note(root / "ucfTrainTestlist" / f"trainlist0{fold}.txt", *lines)
        note(root / "ucfTrainTestlist" / f"testlist0{fold}.txt", *listed[test])
    return root


def hmdb51(root: Path) -> Path:
    """Names as they are there, with brackets and blanks in lines; one name in two classes; 0 is unused."""
    for name in ("brush_hair", "wave"):
        files = [f"{'#20_(x)_[y]_' if i else 'April_'}{name}_f_nm_np1_ba_goo_{i}.avi" for i in range(3)]
        files += ["same_u_nm_np1_fr_med_0.avi"]
        for file in files:
            video(root / name / file)
        for fold in (1, 2, 3):
            uses = "1201" if fold == 1 else "2110"
            lines = [f"{file} {use} " for file, use in zip(files, uses, strict=True)]
            note(root / "testTrainMulti_7030_splits" / f"{name}_test_split{fold}.txt", *lines)
        note(root / "testTrainMulti_7030_splits" / f"._{name}_test_split1.txt", "macOS leaves such files")
    return root


def kinetics(root: Path) -> Path:
    """Folders with blanks and with underscores, an id that begins with a minus, one missing, one extra."""
    note(
        root / "annotations" / "train.csv",
        "label,youtube_id,time_start,time_end,split,is_cc",
        '"riding a bike",-abcdefghi0,1,11,train,0',
        '"riding a bike",Abcdefghi_1,4,14,train,0',
        "abseiling,abcdefghi_1,4,14,train,1",
        "abseiling,gonegonegon,4,14,train,1",
    )
    note(
        root / "annotations" / "validate.csv",
        "label,youtube_id,time_start,time_end,split",
        "abseiling,valvalvalva,72,82,validate",
    )
    note(root / "annotations" / "test.csv", "youtube_id,time_start,time_end,split", "testtesttes,0,10,test")
    video(root / "train" / "riding a bike" / "-abcdefghi0_000001_000011.mp4")
    video(root / "train" / "riding_a_bike" / "Abcdefghi_1_000004_000014.mp4")
    video(root / "train" / "abseiling" / "abcdefghi_1_000004_000014.mp4")
    video(root / "train" / "abseiling" / "extraextrae_000000_000010.mp4")
    video(root / "val" / "abseiling" / "valvalvalva_000072_000082.mp4")
    video(root / "test" / "testtesttes.mp4")
    return root


def something_v2(root: Path, *, old_names: bool) -> Path:
    prefix = "something-something-v2-" if old_names else "labels/"
    note(root / f"{prefix}labels.json", json.dumps({"Pushing something": "1", "Holding something": "0"}))
    rows = [
        {"id": "10", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]},
        {"id": "11", "label": "pushing it", "template": "Pushing [something]", "placeholders": ["it"]},
    ]
    note(root / f"{prefix}train.json", json.dumps(rows))
    note(root / f"{prefix}validation.json", json.dumps([{**rows[1], "id": "12"}]))
    note(root / f"{prefix}test.json", json.dumps([{"id": "13"}]))
    if not old_names:
        note(root / f"{prefix}test-answers.csv", "13;Pushing something")
    for number in (10, 11, 12, 13):
        video(root / "20bn-something-something-v2" / f"{number}.webm")
    return root


def something_v1(root: Path) -> Path:
    import numpy as np
    from PIL import Image

    prefix = "something-something-v1-"
    note(root / f"{prefix}labels.csv", "Holding something", "Turning something; upside down")
    note(root / f"{prefix}train.csv", "1;Holding something", "2;Turning something; upside down")
    note(root / f"{prefix}validation.csv", "3;Holding something")
    note(root / f"{prefix}test.csv", "4")
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        folder = root / "20bn-something-something-v1" / str(number)
        folder.mkdir(parents=True)
        noise = rng.integers(0, 256, (5, 6, 8, 3), np.uint8)
        for i, pixels in enumerate(noise, start=1):
            image = Image.fromarray(pixels).resize((64, 48))
            image.save(folder / f"{i:05d}.jpg", quality=90)
    return root


def activitynet(root: Path) -> Path:
    def entry(subset, *notes):
        return {
            "subset": subset,
            "annotations": [{"segment": list(s), "label": label} for *s, label in notes],
        }

    database = {
        "-idididid00": entry("training", (0.2, 0.6, "Polishing shoes"), (1.0, 1.4, "Archery")),
        "idididid_01": entry("validation", (0.0, 0.4, "Archery")),
        "idididid_02": entry("testing"),
    }
    note(root / "activity_net.v1-3.min.json", json.dumps({"database": database, "version": "1.3"}))
    video(root / "v_-idididid00.mp4", 40)
    video(root / "videos" / "idididid_01.mp4", 40)
    video(root / "v_idididid_02.mp4", 12)
    return root


def sports1m(root: Path) -> Path:
    note(root / "labels.txt", "aerobics", "beach volleyball", "chess boxing")
    address = "https://www.youtube.com/watch?v="
    note(
        root / "train_partition.txt",
        f"{address}-a_b_c_d_e0 2,0",
        f"{address}abcdefghi01 0",
        f"{address}bbbbbbbbb02 1",
    )
    note(root / "test_partition.txt", f"{address}testtest_99 1")
    video(root / "-a_b_c_d_e0.mp4", 40, fps=4)
    video(root / "abcdefghi01.mp4", 12, fps=4)
    video(root / "bbbbbbbbb02.mp4", 30, fps=4)
    video(root / "testtest_99.mp4", 40, fps=4)
    return root


def charades(root: Path) -> Path:
    """Three actions, of which a video has two, one or none; one of them twice; another video is missing."""
    header = "id,subject,script,actions,length"
    note(
        root / "Charades_v1_classes.txt", "c000 Holding some clothes", "c001 Opening a door", "c002 Sneezing"
    )
    note(root / "Charades_v1_train.csv", header,
         'AAAA1,S1,"A person, at home",c002 0.00 1.00;c000 0.10 2.00;c002 2.00 3.00,3.2',
         "AAAA2,S1,text,c001 0.00 1.00,3.2",
         "AAAA3,S2,text,,3.2",
         "GONE1,S2,text,c001 0.00 1.00,3.2")  # fmt: skip
    note(root / "Charades_v1_test.csv", header, "BBBB1,S3,text,c000 0.00 1.00;c001 0.50 2.00,3.2")
    for name in ("AAAA1", "AAAA2", "AAAA3", "BBBB1"):
        video(root / "Charades_v1_480" / f"{name}.mp4")
    return root
