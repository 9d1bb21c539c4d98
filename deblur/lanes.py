"""Vectors of 8 or 16 float32 for compiled kernels: what a loop over the columns of a cell should become, said
outright.

Numba can't promise LLVM that two arrays don't overlap, so loops that add to one array from many places are guarded,
copied and often not vectorised. Each operation here is done lane by lane, without reordering or fusing: the bits are
those of the plain loop, on any processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_model


class Lanes(types.Type):
    """The Numba type of a vector of `count` float32."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"lanes{count}")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.FloatType(), lanes.count))


def _check(array: Any) -> None:
    if not (isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"):
        raise TypingError(f"vectors are read from contiguous float32 arrays, not from {array}")


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, count: int) -> Any:
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(first, ir.VectorType(ir.FloatType(), count).as_pointer())


@intrinsic(prefer_literal=True)
def zeros(typing: Any, count: Any) -> Any:
    """A vector of `count` zeros; `count` is a literal."""
    lanes = Lanes(count.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant_null(lanes)

    return lanes(count), code


@intrinsic
def load(typing: Any, like: Any, array: Any, index: Any) -> Any:
    """Read a vector, of as many lanes as `like` has, from a flat float32 array from `index` on."""
    _check(array)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, array, args[1], args[2], like.count), align=4)

    return like(like, array, types.intp), code


@intrinsic
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write a vector to a flat float32 array from `index` on."""
    _check(array)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, array, args[0], args[1], lanes.count)
        builder.store(args[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@intrinsic
def times(typing: Any, lanes: Any, weight: Any) -> Any:
    """A vector times a number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), lanes.count)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), args[1], cgutils.int32_t(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), [0] * lanes.count)
        return builder.fmul(args[0], builder.shuffle_vector(one, one, mask))

    return lanes(lanes, types.float32), code


@intrinsic
def plus(typing: Any, lanes: Any, other: Any) -> Any:
    """The sum of two vectors."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return lanes(lanes, lanes), code
