"""Writes docs/timm-families.md: one network of each of timm's families, inflated and proved, or refused.

python tools/timm_families.py            # minutes: every network is built and run, with random weights
"""

from __future__ import annotations

import re
from pathlib import Path

import timm
from timm.models import model_entrypoint

from transfer3d.errors import UsageError
from transfer3d.inflation.inflation import inflate, targets_of
from transfer3d.inflation.source import read_source, spec_types
from transfer3d.inflation.vit_source import check_vit
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.nn.on_meta import on_meta

PAGE = Path(__file__).parents[1] / "docs" / "timm-families.md"
INTRODUCTION = """# What becomes of timm's families

Written by `python tools/timm_families.py`, which inflates one network of each of timm's families with random
weights; a slow test compares them. A family is a module of timm's, and other networks of it may differ.

`--to` is filled in where the proof holds: on a still clip the student gives the network's pooled feature to
1e-5. `*`: its classifier is more than one linear layer, so that a student gets a new one, by
`--num-classes N`, or none, by `--num-classes 0`. ResNets and DenseNets also go to other students, vision
transformers to `timesformer`.

| timm's family | network | `--to` | or why not |
| --- | --- | --- | --- |
"""
EXAMPLES = (
    *("beit_base_patch16_224", "gernet_s", "halonet26t", "cait_xxs24_224", "coat_tiny", "convit_tiny"),
    *("convmixer_1024_20_ks9_p14", "convnext_atto", "cpubone_nano", "crossvit_tiny_240", "csatv2"),
    *("cspresnet50", "cspnext_tiny", "davit_tiny", "deepseek_vit_412m", "deit_tiny_patch16_224"),
    *("densenet121", "dla46_c", "dpn48b", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0"),
    *("mixnet_s", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224"),
    *("fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050"),
    *("hardcorenas_a", "hgnet_tiny", "hiera_tiny_224", "sam2_hiera_tiny", "hrnet_w18_small", "iformer_t"),
    *("inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small"),
    *("levit_128s", "lowformer_b0", "test_mambaout", "test_maxvit", "poolformer_s12", "mixer_s32_224"),
    *("lcnet_050", "mobilenetv5_300m", "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_gap"),
    *("nasnetalarge", "nest_tiny", "nextvit_small", "test_nfnet", "pit_ti_224", "pnasnet5large", "pvt_v2_b0"),
    *("qwen3_vit_88m", "rdnet_tiny", "regnetx_002", "repghostnet_050", "repvit_m0_9", "res2net50_26w_4s"),
    *("resnest14d", "resnet18", "resnetv2_50d_gn", "rexnet_100", "selecsls42b", "legacy_seresnet18"),
    *("sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s1", "swiftformer_xs"),
    *("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "tiny_vit_5m_224"),
    *("tnt_s_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny", "test_vit"),
    *("vit_tiny_r_s16_p8_224", "vit_relpos_small_patch16_224", "samvit_base_patch16_224"),
    *("vitamin_small_224", "volo_d1_224", "ese_vovnet19b_dw", "legacy_xception", "xception41"),
    "xcit_nano_12_p16_224",
)
"""A small network of each family."""
GENERAL = ("i3d", "vivit", "video_swin")
"""The students that take the most networks of each kind."""
PROOF_SIZE = 96
"""H and W of the proof's images, where a network takes them; otherwise its own."""


def family_of(name: str) -> str:
    """Returns the module in which timm defines a network."""
    return model_entrypoint(name).__module__.removeprefix("timm.models.")


def missing() -> list[str]:
    """Returns the families of this timm that have no example."""
    known = {family_of(name) for name in EXAMPLES}
    own = {family_of(name) for name in timm.list_models() if model_entrypoint(name).__module__[:4] == "timm"}
    return sorted(own - known)


def row(name: str) -> str:
    """Returns the row of a network."""
    with on_meta():
        model = timm.create_model(name)
        targets = targets_of(model)
        to = next((family for family in GENERAL if family in targets), GENERAL[0])
        try:
            check_vit(name, model)
            source = read_source(model, spec_types(model)[-1])
            create_model(to, num_classes=0, spec=source.spec.to_dict())
        except UsageError as error:
            return f"| {family_of(name)} | `{name}` | | {reason(str(error))} |"
    prove(name, to)
    new_head = " *" if len(source.head) > 1 else ""
    return f"| {family_of(name)} | `{name}`{new_head} | `{to}` | |"


def prove(name: str, to: str) -> None:
    """Inflates a network with random weights.

    Raises:
        WeightsError: the student gives something else on a still clip.
    """
    model = create_image_model(name, "none")
    try:
        inflate(model, to, num_classes=0, frames=4, proof_size=PROOF_SIZE if to == "i3d" else None)
    except UsageError:  # it takes images of its own size alone
        inflate(model, to, num_classes=0, frames=4)


def reason(sentence: str) -> str:
    """Shortens a refusal: no name of the network, nor numbers of the stages."""
    sentence = re.sub(r"^(\w+: )?\w+ ", "", sentence).removesuffix(", which no family supports.")
    return re.sub(r" \(depths .*size\)", "", sentence).rstrip(".")


def page() -> str:
    """Returns the whole page.

    Raises:
        ValueError: timm has a family without an example.
    """
    if others := missing():
        raise ValueError(f"timm's {', '.join(others)}: add a network of each to EXAMPLES")
    return INTRODUCTION + "".join(row(name) + "\n" for name in sorted(EXAMPLES, key=family_of))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
