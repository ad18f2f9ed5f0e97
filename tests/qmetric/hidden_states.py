"""Token-level hidden states for tests, and their similarities from the definition, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor


def hidden_states(
    lengths: Sequence[int], hidden: int, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> list[Tensor]:
    """One tensor [n, hidden] an answer, with columns of very different norms that belong together more or less."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(hidden) + torch.randn((hidden, hidden), generator=generator) / (2 * hidden**0.5)
    scale = torch.randn(hidden, generator=generator).exp()
    answers = (
        torch.randn((n, hidden), generator=generator) @ (mixing if i % 2 else mixing.T) + 0.3
        for i, n in enumerate(lengths)
    )
    return [(answer * scale).to(dtype).to(device) for answer in answers]


def correlations(states: Sequence[Tensor]) -> Tensor:
    """S [k, k] from the correlation matrices themselves."""
    found = []
    for x in states:
        t = x.double()
        norms = t.norm(dim=0)
        unit = torch.where(norms == 0, torch.zeros_like(t), t / torch.where(norms == 0, torch.ones_like(norms), norms))
        found.append(unit.T @ unit)
    rows = []
    for a in found:
        products = [(a * b).sum() / (a.norm() * b.norm()) if a.any() and b.any() else torch.zeros(()) for b in found]
        rows.append(torch.stack([p.double().to(states[0].device) for p in products]))
    return torch.stack(rows)
