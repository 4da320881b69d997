"""CUDA devices that do not exist: tensors on them have shapes, dtypes, devices and sizes, but no numbers.

Tensors on the CPU stay real, so code that mixes both runs as it is. What comes back to the CPU is made up: `x.all()`
is true, `x.any()` is false, `nonzero` finds nothing, other numbers are 0.5 or 1, and copied tensors hold fractions that
differ (zeros, if they are integers).

An operation fails here as it would on a GPU: over tensors of two devices (FakeTensor's own rule), over two dtypes, or
when the living tensors exceed the device's memory. Where float32 must be exact, it also fails if TF32 is on.

Not rehearsed: torch.compile, the numbers, time, what processes send each other, and memory beyond living tensors
(CUDA's context, workspaces of cuDNN, fragmentation).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

aten = torch.ops.aten
GIB = 2**30
BLOCK = 512
"""PyTorch's allocator hands out multiples of this many bytes."""

CONVOLUTIONS = {"convolution", "convolution_backward"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot"}
RANDOM = {"rand", "randn", "randint", "randperm", "normal_", "uniform_", "bernoulli_"}


class GpuError(Exception):
    """An operation that a GPU would refuse, or would compute with other numbers than it should."""


class FakeCuda(TorchDispatchMode):
    """The devices, what is on them, and what was done.

    devices: how many. total: bytes of each. exact: whether float32 products must be computed without TF32.
    live, peak: bytes of living tensors, by device index. syncs: how often the CPU waited for a number or a copy.
    operations: number of operations on the devices.
    """

    def __init__(self, devices: int = 1, total: int = 80 * GIB, exact: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.devices, self.total, self.exact = devices, total, exact
        self.live, self.peak = Counter[int](), Counter[int]()
        self.syncs = self.operations = 0
        self.shapes = FakeTensorMode(allow_non_fake_inputs=True)
        self._known = WeakIdKeyDictionary()
        self._reduced_by = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if kwargs.get("device") is not None:
            kwargs["device"] = indexed(kwargs["device"])
        creates = kwargs.get("device", torch.device("cpu")).type == "cuda"
        if not creates and not any(isinstance(x, FakeTensor) for x in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func.namespace != "aten":  # such as prim::device, the question where a tensor is
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and func._can_decompose():  # other modes take such operations apart
            with self:
                return func.decompose(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        self.operations += 1
        self._check(name, tensors)
        found = self._answer(name, args, kwargs)
        if found is None:
            found = self._create(name, args, kwargs) if creates else None
        if found is None:
            found = func(*self._without_numbers(args), **self._without_numbers(kwargs))
        for tensor in tree_leaves(found):
            if isinstance(tensor, FakeTensor):
                self._count(tensor)
                self._reduced_by[tensor] = name
        return found

    # --- rules

    def _check(self, name: str, tensors: list[Tensor]) -> None:
        """Raises GpuError if a product mixes dtypes, or computes float32 by TF32 where it must be exact."""
        attention = "scaled_dot_product" in name
        if not (name in CONVOLUTIONS or name in PRODUCTS or attention):
            return
        dtypes = {x.dtype for x in tensors if x.is_floating_point()}
        if len(dtypes) > 1 and not (attention and "backward" in name):  # which keeps sums in float32
            raise GpuError(f"{name} of {' and '.join(sorted(map(str, dtypes)))}")
        cudnn: Any = torch.backends.cudnn
        place = cudnn.conv if name in CONVOLUTIONS else torch.backends.cuda.matmul
        if self.exact and torch.float32 in dtypes and place.fp32_precision == "tf32":
            raise GpuError(f"{name} in float32 while TF32 is on")

    def _count(self, tensor: FakeTensor) -> None:
        """Count a tensor's memory until it dies. Raises OutOfMemoryError if the device has no room for it."""
        if tensor.device.type != "cuda":
            return
        storage, index = tensor.untyped_storage(), tensor.device.index
        if storage in self._known:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        if self.live[index] + size > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB")
        self._known[storage] = True
        self.live[index] += size
        self.peak[index] = max(self.peak[index], self.live[index])
        weakref.finalize(storage, self.live.subtract, {index: size})

    # --- operations that numbers are needed for

    def _answer(self, name: str, args: Any, kwargs: Any) -> Any:
        """What the CPU is told when it asks for numbers; None for any other operation."""
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal"):
            self.syncs += 1
            return self._scalar(args[0])
        if name == "nonzero":
            self.syncs += 1
            return torch.empty((0, args[0].ndim), dtype=torch.int64, device=args[0].device)
        if name == "_to_copy" and kwargs.get("device", args[0].device).type == "cpu":
            self.syncs += 1
            with unset_fake_temporarily():
                return _made_up(args[0].shape, kwargs.get("dtype") or args[0].dtype)
        if name == "copy_" and not isinstance(args[0], FakeTensor):
            self.syncs += 1
            with unset_fake_temporarily():
                return args[0].copy_(_made_up(args[0].shape, args[0].dtype))
        return None

    def _scalar(self, tensor: Tensor) -> bool | int | float:
        if tensor.dtype == torch.bool:
            return bool(self._reduced_by.get(tensor) == "all")
        return 0.5 if tensor.is_floating_point() else 1

    def _create(self, name: str, args: Any, kwargs: Any) -> Any:
        """A tensor on a device: of random numbers, or copied from the CPU; None for any other operation."""
        device, dtype = kwargs["device"], kwargs.get("dtype")
        if name in RANDOM:
            size = [args[0]] if name == "randperm" else args[-1] if name == "randint" else args[0]
            number = torch.float32 if name in ("rand", "randn") else torch.int64
            return torch.empty(size, dtype=dtype or number, device=device)
        if name == "_to_copy" and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():
                like = torch.empty_like(args[0], device="meta", memory_format=kwargs.get("memory_format"))
            return aten.empty_strided.default(
                list(like.shape), list(like.stride()), dtype=dtype or args[0].dtype, device=device
            )
        return None

    def _without_numbers(self, values: Any) -> Any:
        """Arguments of which those on the CPU have no numbers either; random numbers need no generator."""
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key != "generator"}

        def without(value: Any) -> Any:
            real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
            return self.shapes.from_tensor(value) if real else value

        return tree_map(without, values)


def _made_up(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU, no two rows of it alike if it has fractions."""
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    return (torch.arange(1, shape.numel() + 1) % 1009 / 1009).to(dtype).view(shape)


class _Functions(TorchFunctionMode):
    """Functions that would look into a tensor, or ask the driver, before any operation is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention and args[0].device.type == "cuda":
            return _attention(*args, **kwargs)
        if func is Tensor.__getitem__ and isinstance(args[0], FakeTensor):  # a list would be copied to a real device
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            return func(args[0], tuple(torch.tensor(i) if isinstance(i, list) else i for i in index))
        if func is torch.tensor and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The kernel that PyTorch takes for float32, and on older GPUs for any dtype; it asks the driver for a better."""
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*q.shape[:-1], k.shape[-2])
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros(attn_mask.shape, dtype=q.dtype, device=q.device)
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    mixed: Tensor = aten._scaled_dot_product_efficient_attention(
        q, k, v, attn_mask, trains, dropout_p, is_causal, scale=scale
    )[0]
    return mixed


def indexed(device: Any) -> torch.device:
    """The device with its index: "cuda" is the current one."""
    named = torch.device(device)
    without = named.type == "cuda" and named.index is None
    return torch.device("cuda", torch.cuda.current_device()) if without else named


def _swap(one: Any, other: Any) -> None:
    """Exchange two tensors as `torch.utils.swap_tensors` does, which refuses tensors that somebody watches."""
    one.__class__, other.__class__ = other.__class__, one.__class__
    one.__dict__, other.__dict__ = other.__dict__, one.__dict__
    torch._C._swap_tensor_impl(one, other)


def _patches(gpu: FakeCuda) -> dict[str, Any]:
    """Functions of torch.cuda by name, as these devices answer them."""

    def index(device: Any) -> int:
        return torch.cuda.current_device() if device is None else indexed(device).index

    def reset_peak(device: Any = None) -> None:
        gpu.peak[index(device)] = gpu.live[index(device)]

    properties = SimpleNamespace(name="fake", major=9, minor=0, total_memory=gpu.total, multi_processor_count=132)
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: gpu.devices,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "fake",
        "is_bf16_supported": lambda including_emulation=True: True,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": reset_peak,
        "max_memory_allocated": lambda device=None: gpu.peak[index(device)],
        "memory_allocated": lambda device=None: gpu.live[index(device)],
        "memory_reserved": lambda device=None: gpu.live[index(device)],
        "mem_get_info": lambda device=None: (gpu.total - gpu.live[index(device)], gpu.total),
    }


@contextmanager
def fake_cuda(devices: int = 1, total: int = 80 * GIB, exact: bool = False) -> Iterator[FakeCuda]:
    """Within this context, torch has these CUDA devices; see `FakeCuda`. The stub must be loaded; see `stub`."""
    gpu = FakeCuda(devices, total, exact)
    load, save = torch.load, torch.save

    def load_numbers(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return load(*args, **kwargs)

    def save_numbers(content: Any, *args: Any, **kwargs: Any) -> None:
        content = tree_map(lambda x: x.detach().cpu() if isinstance(x, FakeTensor) else x, content)
        with unset_fake_temporarily():
            save(content, *args, **kwargs)

    with ExitStack() as stack:
        for name, function in _patches(gpu).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch, "load", load_numbers))
        stack.enter_context(mock.patch.object(torch, "save", save_numbers))
        stack.enter_context(mock.patch.object(torch.utils, "swap_tensors", _swap))
        torch.cuda.set_device(0)
        for mode in (gpu.shapes, gpu, _Functions()):
            stack.enter_context(mode)
        yield gpu
