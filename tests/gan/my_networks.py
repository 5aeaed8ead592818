"""Networks of a user's own, good and bad, named by import path in the tests."""

import torch
from torch import Tensor, nn


class _G(nn.Module):
    def __init__(self, *, size: int, channels: int, width: int, z_dim: int, n_classes: int, **_: object) -> None:
        super().__init__()
        self.hidden = nn.Linear(z_dim + n_classes, width)
        self.out = nn.Linear(width, channels * size * size)
        self.shape, self.n_classes = (channels, size, size), n_classes

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if y is not None:
            z = torch.cat([z, nn.functional.one_hot(y, self.n_classes).to(z.dtype)], dim=1)
        return self.out(self.hidden(z).relu()).tanh().unflatten(1, self.shape)


class _D(nn.Module):
    def __init__(self, *, size: int, channels: int, width: int, n_classes: int, **_: object) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * size * size, width)
        self.out = nn.Linear(width, max(1, n_classes))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        out = self.out(self.hidden(x.flatten(1)).relu())
        return out[:, 0] if y is None else out.gather(1, y[:, None])[:, 0]


def make_pair(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    pair = _G(**shape), _D(**shape)
    with torch.no_grad():
        for player in pair:
            for parameter in player.parameters():
                parameter.uniform_(-0.3, 0.3, generator=generator)
    return pair


def from_the_global_state(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    return _G(**shape), _D(**shape)


def only_a_size(size: int) -> None:
    pass


def one_network(*, generator: torch.Generator, **shape: int) -> nn.Module:
    return make_pair(generator=generator, **shape)[0]


def too_bright(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return _Then(g, lambda x: 3 * x), d


def a_column_of_logits(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return g, _Then(d, lambda x: x[:, None])


def not_a_number(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return g, _Then(d, lambda x: x / 0)


def an_idle_layer(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    d.idle = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in d.idle.parameters():
            parameter.zero_()
    return g, d


def cut_off(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return _Then(g, lambda x: x.detach()), d


def upside_down(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return d, g


def with_dropout(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    return g, nn.Sequential(nn.Dropout(0.5), d)


def a_frozen_layer(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    g, d = make_pair(generator=generator, **shape)
    g.hidden.weight.requires_grad_(False)
    return g, d


_KEPT: list[tuple[nn.Module, nn.Module]] = []


def the_same_again(*, generator: torch.Generator, **shape: int) -> tuple[nn.Module, nn.Module]:
    if not _KEPT:
        _KEPT.append(make_pair(generator=generator, **shape))
    return _KEPT[0]


def breaks_down(*, generator: torch.Generator, **shape: int) -> None:
    raise TypeError("nothing to do with keywords")


class _Then(nn.Module):
    def __init__(self, net: nn.Module, then: object) -> None:
        super().__init__()
        self.net, self.then = net, then

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.then(self.net(*inputs))  # type: ignore[operator,no-any-return]


not_callable = 3
