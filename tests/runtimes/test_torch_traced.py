"""A traced function is the function: the same bits for every shape, traced or not."""

from __future__ import annotations

import torch
from torch import Tensor

from thick.runtimes.torch import traced as module
from thick.runtimes.torch.frozen import PIECE, Affine, product_form
from thick.runtimes.torch.traced import Traced


def _step(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    hidden = torch.tanh(x @ x.transpose(-1, -2)).exp_().sum(-1, keepdim=True)
    return hidden * y, x.argmax(-1)


def test_a_trace_gives_the_same_bits_call_after_call() -> None:
    function = Traced(_step)
    with torch.inference_mode():
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            for rows in (1, 4, 8):
                x = torch.randn(rows, 6, 9, generator=generator)
                y = torch.randn(rows, 6, 9, generator=generator)
                assert all(torch.equal(a, b) for a, b in zip(function(x, y), _step(x, y), strict=True))


def test_shapes_are_traced_when_they_come_again_and_the_number_of_traces_is_bounded() -> None:
    called = []

    def double(x: Tensor) -> tuple[Tensor, ...]:
        called.append(x.shape[0])
        return (2 * x,)

    function = Traced(double)
    with torch.no_grad():
        for rows in range(1, module.KEPT + 10):
            for _ in range(module.SEEN):
                assert function(torch.ones(rows))[0].shape == (rows,)
        called.clear()
        function(torch.ones(module.KEPT + 9))
        assert not called  # the trace answers
        function(torch.ones(1))
        assert called == [1]  # its trace had to make room


def test_gradients_need_the_function_itself() -> None:
    function = Traced(lambda x: (x * x,))
    x = torch.ones(3, requires_grad=True)
    for _ in range(module.SEEN + 1):
        (y,) = function(x)
        assert y.requires_grad


def test_a_trace_that_differs_is_not_used() -> None:
    calls = []

    def fickle(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        return (x + len(calls),)  # a number that a trace would keep

    function = Traced(fickle)
    with torch.no_grad():
        for _ in range(5):
            before = len(calls)
            assert torch.equal(function(torch.zeros(2))[0], torch.full((2,), float(len(calls))))
            assert len(calls) > before


def test_the_form_of_a_product_is_tried_once_and_not_within_a_trace() -> None:
    """Within a trace sizes are tensors, under which no cache finds what was tried: trials became part of it."""
    layer = Affine(torch.randn(13, 29), torch.zeros(13), torch.float32)
    function = Traced(lambda x: (layer(x),))
    product_form.cache_clear()
    x = torch.randn(2, PIECE, 29)
    with torch.inference_mode():
        for _ in range(module.SEEN + 1):
            function(x)
    assert product_form.cache_info().misses == 1
    (trace,) = function._traces.values()
    assert "randn" not in str(trace.graph)  # type: ignore[attr-defined]
