"""How are the experts of a mixture spread over ranks, and how do tokens get to them?

Each rank of an expert group holds some of the experts and has tokens of its own for all of them.
It sends every token to the rank of its expert, computes the tokens that it receives for its own
experts, and sends the results back (expert parallelism, Lepikhin et al. 2021). No token is lost
and no buffer is padded: the numbers are exchanged first. Knows neither router nor attention.

The wrapper calls ``spread_experts(module, mesh)`` for each module that ``Split.experts`` names,
with ``layout.sparse["expert"]``; where there are tensor ranks too, with
``layout.sparse["expert", "tensor"]``, and where experts are not spread, with ``layout.tensor``.
Every rank must have built the same module: it takes its own slice of it without communication.
Then ``fully_shard(module, mesh=layout.expert_sharding, shard_placement_fn=expert_placements(
module, degree))`` shards or copies further, before the block around it is sharded. No factor is to
be set: gradients that leave here are means over the expert group already, as if every rank of it
had held the expert.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Shard

from orchestrator.parallel.collectives import send_evenly_to_all, send_to_all
from orchestrator.parallel.experts_local import parameters_as, scaled_gradient, zero_gradients

EXPERT_DIM = 0
"""Every parameter of a module of experts has one slice per expert along this dimension."""


def spread_experts(module: nn.Module, mesh: DeviceMesh) -> None:
    """Spread experts over ``mesh``, in place; its dimensions are called ``expert``, ``tensor``.

    Parameters become DTensors of which this rank holds its own experts (``expert``) and a part of
    each one's hidden features (``tensor``: ``module.hidden_dims`` names the dimension of every
    parameter). ``module.forward(tokens [n, width], counts [num_experts])`` then takes tokens for
    all experts, while the code it stands for sees plain tensors, local tokens and local counts,
    sometimes none at all. With tensor ranks the result is a part of a sum over them.

    Raises ``TypeError`` for a module that does not hold experts in this way, ``ValueError``
    where a size is not a multiple of a degree.
    """
    names = mesh.mesh_dim_names or ()
    if not names or not set(names) <= {"expert", "tensor"}:
        raise ValueError(f"experts are spread over expert and tensor ranks, not over {names}")
    for name, parameter in list(module.named_parameters()):
        placements = [_placement(module, name, parameter, dimension) for dimension in names]
        path, _, attribute = name.rpartition(".")
        held = _slice(name, parameter, mesh, placements)
        setattr(module.get_submodule(path), attribute, held)
    group = mesh.get_group("expert") if "expert" in names else None
    share = 1.0 if group is None else 1.0 / group.size()
    forward = functools.partial(_compute, module, module.forward, share)
    if group is not None:
        forward = functools.partial(_exchange, forward, group)
    module.forward = forward


def expert_placements(module: nn.Module, degree: int) -> Callable[[nn.Parameter], Shard | None]:
    """Along which dimension ``fully_shard`` over ``degree`` ranks should cut each parameter.

    One that neither expert nor tensor ranks have cut, so that a rank's part stays one block of
    the whole; or dimension 0 where ``degree`` divides no other.
    """
    hidden: Mapping[str, int] = getattr(module, "hidden_dims", {})
    dims: dict[nn.Parameter, int] = {}
    for name, parameter in module.named_parameters():
        free = [d for d in range(parameter.dim()) if d not in (EXPERT_DIM, hidden.get(name))]
        fitting = [d for d in free if parameter.shape[d] % degree == 0]
        dims[parameter] = fitting[0] if fitting else EXPERT_DIM
    return lambda parameter: Shard(dims[parameter])


def _placement(module: nn.Module, name: str, parameter: Tensor, dimension: str) -> Shard:
    if dimension == "expert":
        return Shard(EXPERT_DIM)
    dims: Mapping[str, int] = getattr(module, "hidden_dims", {})
    if name not in dims:
        raise TypeError(
            f"{type(module).__name__}.hidden_dims must say along which dimension of "
            f"{name!r} {tuple(parameter.shape)} the hidden features of an expert lie, so that "
            'tensor ranks can divide them, such as {"up_proj": 1, "down_proj": 2}'
        )
    return Shard(dims[name])


def _slice(
    name: str, parameter: nn.Parameter, mesh: DeviceMesh, placements: list[Shard]
) -> nn.Parameter:
    held = parameter.detach()
    for dimension, placement in enumerate(placements):
        degree, rank = mesh.size(dimension), mesh.get_local_rank(dimension)
        if held.dim() == 0 or held.shape[placement.dim] % degree:
            kind = (mesh.mesh_dim_names or ())[dimension]
            raise ValueError(
                f"{name} {tuple(parameter.shape)} cannot be shared evenly by {degree} {kind} "
                f"ranks along dimension {placement.dim}"
            )
        held = held.chunk(degree, placement.dim)[rank]
    kinds: list[Placement] = [*placements]
    # DTensor finds the strides of the whole from those of the part, even where they say nothing.
    own = held.clone(memory_format=torch.contiguous_format)
    spread = DTensor.from_local(own, mesh, kinds, run_check=False)
    return nn.Parameter(spread, requires_grad=parameter.requires_grad)


def _compute(
    module: nn.Module, forward: Callable[..., Tensor], share: float, tokens: Tensor, counts: Tensor
) -> Tensor:
    """What ``forward`` makes of tokens of local experts alone."""

    def local(parameter: DTensor) -> Tensor:
        held: Tensor = parameter.to_local()
        return held if share == 1.0 else scaled_gradient(held, share)

    with parameters_as(list(module.modules()), local) as held:
        results = forward(tokens, counts)
        if tokens.shape[0] == 0 and torch.is_grad_enabled():
            results = zero_gradients(results, held)
    return results


def _exchange(
    forward: Callable[..., Tensor], group: dist.ProcessGroup, tokens: Tensor, counts: Tensor
) -> Tensor:
    """The experts' results for this rank's tokens ``[n, width]``, sorted by expert."""
    # [source rank, local expert]: how many tokens each rank has for each of this rank's experts.
    incoming = send_evenly_to_all(counts, group).view(group.size(), -1)
    numbers = torch.stack([counts.view_as(incoming).sum(1), incoming.sum(1)]).tolist()
    sent, received = numbers  # one wait for the device, instead of two
    if sum(sent) != tokens.shape[0]:
        raise ValueError(f"{tokens.shape[0]} tokens, but their counts say {sum(sent)}")
    arrived = send_to_all(tokens, received, sent, group)
    order = _by_expert(incoming)
    results = forward(arrived[order], incoming.sum(0))
    restored = torch.empty_like(results).index_copy(0, order, results)
    return send_to_all(restored, sent, received, group)


def _by_expert(incoming: Tensor) -> Tensor:
    """Where the tokens sorted by local expert stand among those that arrived, rank by rank."""
    experts = torch.arange(incoming.shape[1], device=incoming.device).repeat(incoming.shape[0])
    return experts.repeat_interleave(incoming.flatten()).argsort(stable=True)
