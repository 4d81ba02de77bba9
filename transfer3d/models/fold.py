"""Folds BatchNorm into the preceding convolution, in any image network.

One forward pass is traced operator by operator. If a BatchNorm is the only consumer of a convolution's
output, the two form one linear map, whatever the names of their modules.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transfer3d.nn.conv4d import Conv4d
from transfer3d.nn.memory_format import to_channels_last

TOLERANCE = 1e-4
"""Maximum norm of the difference to the network's own outputs, relative to their norm, in fp32."""
FRAMES = 2

Network = TypeVar("Network", bound=nn.Module)
Convolution = nn.Conv2d | nn.Conv3d | Conv4d
Pair = tuple[str, str]
"""Names of a convolution and of the BatchNorm that is the only consumer of its output."""


def fold(network: nn.Module, shape: Sequence[int]) -> nn.Module:
    """Returns a frozen timm network with its BatchNorms folded, or the network itself if the outputs differ.

    The result is for inference. Only its folded convolutions have new tensors; it shares all others with the
    network, which is not changed.

    Args:
        network: in eval mode, with `forward_features` and `forward_head`.
        shape: C H W of a frame.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in network.modules()):
        return network
    like = next(network.parameters())
    frames = torch.randn(FRAMES, *shape, generator=torch.Generator().manual_seed(0)).to(like)
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.no_grad(), torch.autocast(frames.device.type, enabled=False), exact:
        pairs = foldable_pairs(network, lambda: _scores(network, frames))
        if not pairs:
            return network
        folded = without_norms(with_same_tensors(network), pairs)
        try:
            outputs = _outputs(folded, frames)
        except AttributeError:  # the network reads attributes of its BatchNorms
            return network
        return folded if all(map(_equal, outputs, _outputs(network, frames))) else network


def with_same_tensors(network: Network) -> Network:
    """Returns a copy of a network's modules that holds the same parameters and buffers."""
    tensors: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, tensors)


def foldable_pairs(network: nn.Module, forward: Callable[[], object]) -> list[Pair]:
    """Returns the pairs found in one forward pass, in execution order.

    Args:
        network: in eval mode.
        forward: runs it once, without gradients.
    """
    with _Watch(network) as watch:
        forward()
    return watch.pairs()


def without_norms(network: Network, pairs: Iterable[Pair]) -> Network:
    """Folds the BatchNorms of these pairs in place; keeps the activation of timm's BatchNormAct2d.

    The folded convolutions, whose tensors are new, are in channels-last layout.
    """
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        fold_into(cast(Convolution, conv), cast(nn.BatchNorm2d, norm))
        to_channels_last(conv)
        network.set_submodule(norm_name, _rest(norm))
    return network


def fold_into(conv: Convolution, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> None:
    """Folds a BatchNorm into the convolution before it, in new weight and bias tensors."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )


class _Watch(TorchDispatchMode):
    """Records whose output each BatchNorm consumes, and how often each tensor is consumed.

    Modules are identified by their tensors, so a convolution that first scales its weights is not found.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        modules = list(network.named_modules())
        self._convs = {id(part.weight): name for name, part in modules if isinstance(part, nn.Conv2d)}
        self._norms = {
            id(part.running_mean): name
            for name, part in modules
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None
        }
        self._uses = Counter[int]()
        self._outputs: dict[int, tuple[int, Tensor]] = {}  # kept alive so that ids stay unique
        self._takers: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Called by torch for each operator."""
        taken = [id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        result = func(*args, **(kwargs or {}))
        self._uses.update(taken)
        convs, norms = (
            [number for number in taken if number in known] for known in (self._convs, self._norms)
        )
        if convs and isinstance(result, Tensor):
            self._outputs[id(result)] = (convs[0], result)
            self._uses[id(result)] = 0  # discards the count of an earlier tensor with the same id
        if norms:
            self._takers |= {number: norms[0] for number in taken if number in self._outputs}
        return result

    def pairs(self) -> list[Pair]:
        """Returns the pairs whose convolution, output and BatchNorm are each used once."""
        found = [(self._outputs[output][0], output, norm) for output, norm in self._takers.items()]
        return [
            (self._convs[conv], self._norms[norm])
            for conv, output, norm in found
            if self._uses[conv] == self._uses[output] == self._uses[norm] == 1
        ]


def _rest(norm: nn.Module) -> nn.Module:
    """Returns the other layers of a BatchNorm: timm's `BatchNormAct2d` also has dropout and an activation."""
    parts = OrderedDict((name, part) for name, part in norm.named_children())
    return nn.Sequential(parts) if parts else nn.Identity()


def _scores(network: nn.Module, frames: Tensor) -> Tensor:
    parts = cast(Any, network)
    return parts.forward_head(parts.forward_features(frames))


def _outputs(network: nn.Module, frames: Tensor) -> list[Tensor]:
    """Returns all outputs that a teacher may need."""
    parts = cast(Any, network)
    final = parts.forward_features(frames)
    outputs = [final] if isinstance(final, Tensor) else []  # a network of transformers gives a record
    outputs += [parts.forward_head(final, pre_logits=True), parts.forward_head(final)]
    if hasattr(network, "forward_intermediates"):
        outputs += parts.forward_intermediates(frames, norm=True)[1]
    return outputs


def _equal(output: Tensor, expected: Tensor) -> bool:
    return bool((output - expected).norm() <= TOLERANCE * expected.norm())
