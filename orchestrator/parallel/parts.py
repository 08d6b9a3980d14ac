"""Which tensors of the model does this rank hold, and what are they called?

Names are those of the Job's unsplit model, on every mesh, so that what is stored belongs to no
mesh. Knows nothing of how modules came to be split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn


class Parts:
    """The modules that one rank holds: the whole model, or its pipeline stages.

    ``aliases`` maps further names of tied parameters to the name under which they are kept: the
    first that ``named_parameters`` of the unsplit model gives.
    """

    def __init__(self, modules: Sequence[nn.Module], aliases: Mapping[str, str]) -> None:
        self.modules = tuple(modules)
        self.aliases = dict(aliases)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter once, by its canonical name."""
        return {
            self.aliases.get(name, name): parameter
            for module in self.modules
            for name, parameter in module.named_parameters()
        }

    def buffers(self) -> dict[str, Tensor]:
        """Every buffer that is part of the state, by name."""
        return {
            name: buffer for module in self.modules for name, buffer in _persistent_buffers(module)
        }


def tied_names(model: nn.Module) -> dict[str, str]:
    """Further names of the parameters of an unsplit model, each with the canonical one."""
    first: dict[int, str] = {}
    aliases = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        canonical = first.setdefault(id(parameter), name)
        if canonical != name:
            aliases[name] = canonical
    return aliases


def _persistent_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, owner in module.named_modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None and name not in owner._non_persistent_buffers_set:
                yield f"{prefix}.{name}" if prefix else name, buffer
