"""The matching task and the other terms, against brute force over pairs."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from transfer3d.batch import ClipBatch
from transfer3d.errors import UsageError
from transfer3d.layout import ClipSpec
from transfer3d.models.factory import create_model
from transfer3d.models.image import create_image_model
from transfer3d.objectives.correspondence import Correspondence, CorrespondenceConfig
from transfer3d.objectives.heads import FeatureHead, PairHead
from transfer3d.objectives.losses import distillation, infonce, matching
from transfer3d.objectives.pairs import HARDEST, Pairs, choose_negatives, different_sources, source_ids
from transfer3d.objectives.teacher import FrozenTeacher


def batch_of(sources, frames=8):
    torch.manual_seed(len(sources))
    clips = torch.randint(0, 256, (len(sources), 3, frames, 32, 32), dtype=torch.uint8)
    return ClipBatch(clips, torch.zeros(len(sources), dtype=torch.long), list(sources), list(sources))


def different(sources):
    return different_sources(source_ids(sources, torch.device("cpu")))


def matching_of(logits_BB2, sources, pairs: Pairs = "in-batch"):
    negatives_BB = choose_negatives(different(sources), logits_BB2[..., 1] - logits_BB2[..., 0], pairs)
    return matching(logits_BB2, negatives_BB)


def test_all_pairs_equal_a_network_over_concatenations():
    torch.manual_seed(0)
    head = PairHead(5, 7, hidden=(11, 3))
    frames_BD, clips_BD = torch.randn(4, 5), torch.randn(4, 7)
    fc1 = nn.Linear(12, 11)
    fc1.weight.data = torch.cat([head.fc1_frames.weight, head.fc1_clip.weight], dim=1).detach()
    fc1.bias.data = head.fc1_clip.bias.detach()
    plain = nn.Sequential(fc1, nn.ReLU(), head.fc2, nn.ReLU(), head.classifier)
    logits_BB2 = head(frames_BD, clips_BD)
    for i in range(4):
        for j in range(4):
            expected = plain(torch.cat([frames_BD[i], clips_BD[j]]))
            torch.testing.assert_close(logits_BB2[i, j], expected)


def brute_force(logits_BB2, sources):
    positives, negatives, right = [], [], {"matched": [], "mismatched": []}
    for i, frames_source in enumerate(sources):
        for j, clip_source in enumerate(sources):
            if i == j:
                positives.append(functional.cross_entropy(logits_BB2[i, j], torch.tensor(1)))
                right["matched"].append(float(logits_BB2[i, j].argmax() == 1))
            elif frames_source != clip_source:
                negatives.append(functional.cross_entropy(logits_BB2[i, j], torch.tensor(0)))
                right["mismatched"].append(float(logits_BB2[i, j].argmax() == 0))
    loss = (sum(positives) / len(positives) + sum(negatives) / len(negatives)) / 2
    return loss, {name: sum(values) / len(values) for name, values in right.items()}


@pytest.mark.parametrize("sources", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", "a", "c", "c")])
def test_in_batch_loss_equals_loops_over_pairs(sources):
    torch.manual_seed(1)
    logits_BB2 = torch.randn(len(sources), len(sources), 2, requires_grad=True)
    found = matching_of(logits_BB2, sources)
    loss, means = brute_force(logits_BB2, sources)
    torch.testing.assert_close(found.loss, loss)
    assert float(found.matched) == pytest.approx(means["matched"])
    assert found.mismatched is not None
    assert float(found.mismatched) == pytest.approx(means["mismatched"])
    assert found.balanced is not None
    assert float(found.balanced) == pytest.approx(sum(means.values()) / 2)


def test_an_undecided_head_scores_log_two_however_many_negatives():
    assert float(matching_of(torch.zeros(6, 6, 2), list("abcdef")).loss) == pytest.approx(
        math.log(2), abs=1e-5
    )


def test_one_to_one_uses_one_negative_of_another_video_for_each_clip():
    sources = ("a", "b", "a", "c", "d", "d")
    chosen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        negatives_BB = choose_negatives(different(sources), torch.zeros(6, 6), "one-to-one")
        negatives = negatives_BB.nonzero().tolist()
        assert sorted(j for _, j in negatives) == list(range(6))
        assert all(sources[i] != sources[j] for i, j in negatives)
        chosen |= {tuple(pair) for pair in negatives}
    assert len(chosen) > 12  # they are drawn, not fixed


def test_hard_takes_the_pairs_of_other_videos_with_the_highest_logits():
    sources = ("a", "a", "b", "c", "d", "e", "f", "g")
    torch.manual_seed(2)
    logits_BB = torch.randn(8, 8)
    negatives_BB = choose_negatives(different(sources), logits_BB, "hard")
    for clip in range(8):
        others = [frames for frames in range(8) if sources[frames] != sources[clip]]
        hardest = sorted(others, key=lambda frames: -float(logits_BB[frames, clip]))[:HARDEST]
        assert sorted(negatives_BB[:, clip].nonzero()[:, 0].tolist()) == sorted(hardest)


def test_hard_never_takes_a_pair_of_one_video_where_others_are_few():
    sources = ("a", "a", "a", "b")
    negatives_BB = choose_negatives(different(sources), torch.zeros(4, 4), "hard")
    assert negatives_BB.equal(different(sources))


@pytest.mark.parametrize("pairs", ["in-batch", "one-to-one", "hard"])
def test_a_batch_of_one_video_counts_its_matched_half_alone(pairs):
    found = matching_of(torch.zeros(3, 3, 2), ("a", "a", "a"), pairs)
    assert float(found.loss) == pytest.approx(math.log(2) / 2, abs=1e-5)
    assert found.mismatched is None


def test_infonce_is_equation_4_in_both_directions_without_the_same_video():
    sources, temperature = ("a", "b", "a", "c"), 0.2
    torch.manual_seed(3)
    similarity_BB = torch.rand(4, 4)
    expected = 0.0
    for table in (similarity_BB, similarity_BB.T):
        for i in range(4):
            rivals = [j for j in range(4) if j == i or sources[i] != sources[j]]
            mass = sum(math.exp(float(table[i, j]) / temperature) for j in rivals)
            expected -= math.log(math.exp(float(table[i, i]) / temperature) / mass) / 8
    found = infonce(similarity_BB, different(sources), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_distillation_is_the_cross_entropy_with_soft_targets_less_its_least_value():
    torch.manual_seed(4)
    student_BK, teacher_BK = torch.randn(3, 5), torch.randn(3, 5)
    soft_BK = (teacher_BK / 4).softmax(1)
    least = functional.cross_entropy(teacher_BK / 4, soft_BK)
    expected = 16 * (functional.cross_entropy(student_BK / 4, soft_BK) - least)
    torch.testing.assert_close(distillation(student_BK, teacher_BK, 4.0), expected)
    assert float(distillation(teacher_BK, teacher_BK, 4.0)) == pytest.approx(0, abs=1e-6)


def test_an_error_of_one_is_that_of_a_student_that_knows_nothing():
    torch.manual_seed(5)
    head = FeatureHead(6, 6).train()
    nn.init.eye_(head.guess.weight)
    nn.init.zeros_(head.guess.bias)
    frames_BD = 40 + 7 * torch.randn(64, 6)
    assert float(head(frames_BD, torch.zeros(64, 6)).detach()) == pytest.approx(1, abs=1e-3)
    standard_BD = (frames_BD - frames_BD.mean(0)) / frames_BD.std(0, unbiased=False)
    assert float(head(frames_BD, standard_BD).detach()) == pytest.approx(0, abs=1e-5)


TERMS = {"match": "head", "infonce": "similarity", "feature": "feature", "kd": None}


@pytest.mark.parametrize("term", TERMS)
def test_each_term_alone_trains_the_student_and_its_own_head(term):
    weights = {name: 2.0 if name == term else 0.0 for name in TERMS}
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))
    student = create_model("p3d_tiny", num_classes=5 if term == "kd" else 0)
    objective = Correspondence(teacher, student, CorrespondenceConfig.model_validate(weights))
    heads = {name.split(".")[0] for name, _ in objective.named_parameters()} - {"student"}
    assert heads == ({TERMS[term]} if TERMS[term] else set())
    report = objective.train()(batch_of(["a", "b", "c", "d"]))
    report.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert 0 <= float(report.parts["feature_directions"]) <= 3


def test_terms_add_up_by_their_weights_and_are_reported_one_by_one():
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5, seed=3))
    config = CorrespondenceConfig(match=0.5, infonce=2.0, feature=3.0, kd=0.25)
    objective = Correspondence(teacher, create_model("p3d_tiny", num_classes=5), config)
    report = objective.eval()(batch_of(["a", "b", "c"]))
    expected = sum(getattr(config, name) * float(report.parts[f"{name}_loss"]) for name in TERMS)
    assert float(report.total.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [0, 4])
def test_kd_needs_one_label_space(classes):
    teacher = FrozenTeacher(create_image_model("test_resnet", "none", num_classes=5))
    with pytest.raises(UsageError, match="label space"):
        Correspondence(teacher, create_model("p3d_tiny", num_classes=classes), CorrespondenceConfig(kd=1.0))


def test_a_config_that_learns_nothing_is_refused():
    with pytest.raises(ValueError, match="all weights are 0"):
        CorrespondenceConfig(match=0)


def test_a_student_may_be_any_module_that_makes_features():
    student = nn.Sequential(nn.Conv3d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    teacher = FrozenTeacher(create_image_model("test_resnet", "none"))
    clip = ClipSpec(frames=8, stride=1, size=32, crop=32)
    with pytest.raises(ValueError, match="num_features"):
        Correspondence(teacher, student)
    objective = Correspondence(teacher, student, clip=clip, num_features=4)
    objective(batch_of(["a", "b"])).total.backward()
    assert student[0].weight.grad is not None


def test_a_student_may_be_the_teacher_of_another():
    elder = create_model("t3d_tiny", num_classes=7)
    teacher = FrozenTeacher(elder)
    batch = batch_of(["a", "b"], frames=16)
    elder.eval()
    output = teacher(batch.clips)
    torch.testing.assert_close(output.logits, elder(batch.clips))
    assert output.features.shape == (2, elder.num_features)
    objective = Correspondence(teacher, create_model("p3d_tiny", num_classes=0))
    objective(batch).total.backward()
    assert all(parameter.grad is None for parameter in elder.parameters())


def test_the_students_extra_layer_is_a_linear_map_in_front_of_the_heads():
    """T3D, section 3.2: a fully connected layer right after the student's last dense block, 1024 wide."""
    student = create_model("p3d_tiny", num_classes=0)
    teacher = FrozenTeacher(create_image_model("test_resnet", "none"))
    objective = Correspondence(teacher, student, CorrespondenceConfig(student_fc=1024), seed=3)
    layer, head = objective.student_fc, objective.head
    assert layer.weight.shape == (1024, student.num_features)
    assert head.fc1_clip.in_features == 1024
    embeddings = objective.eval().embed(batch_of("abc"))
    logits_BB2 = head(embeddings.teacher_features, embeddings.features @ layer.weight.T + layer.bias)
    loss, _ = brute_force(logits_BB2, "abc")
    report = objective.compare(embeddings)
    torch.testing.assert_close(report.total, loss)
    report.total.backward()
    assert all(parameter.grad.any() for parameter in layer.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    assert Correspondence(teacher, student).student_fc is None


def test_a_standardising_head_sees_features_of_mean_0_and_deviation_1():
    torch.manual_seed(2)
    head, plain = PairHead(5, 7, hidden=(11, 3), standardise=True), PairHead(5, 7, hidden=(11, 3))
    plain.load_state_dict(head.state_dict(), strict=False)
    frames_BD, clips_BD = 100 + 0.01 * torch.randn(6, 5), torch.randn(6, 7) - 3
    standard = [(x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() for x in (frames_BD, clips_BD)]
    torch.testing.assert_close(head(frames_BD, clips_BD), plain(*standard), rtol=1e-3, atol=1e-3)
    assert [name for name, _ in head.named_parameters()] == [name for name, _ in plain.named_parameters()]
