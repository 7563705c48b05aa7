"""Sixteen floats at once for kernels that are compiled by numba: a vector type and its operations, which LLVM
splits on narrower machines. In memory they are float32, or bfloat16 in an int16 array, which numpy has no
type for.

2^x is the nearest multiple of 1/32, whose power is a number from a table with the whole part added to its
exponent's bits, times a polynomial of degree 2 for what is left. Without AVX-512, whose registers hold such a
table, it is the nearest integer and a polynomial of degree 5. Relative error 2e-7 either way.
"""

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
FLOATS, INTS, HALVES = (
    ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32), ir.IntType(16))
)


def _fit(function, low, high, degree):
    """Coefficients of a polynomial without constant term, least squares at Chebyshev nodes: exact at 0."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    powers = x[:, None] ** np.arange(1, degree + 1)
    return [float(c) for c in np.linalg.lstsq(powers, function(x), rcond=None)[0]]


EXP2 = [1.0, *_fit(lambda f: np.exp2(f) - 1, -0.5, 0.5, 5)]  # 2^f on [−½, ½], 1 at 0
# bits of the table's index; a number so large that adding it rounds to multiples of 1/32
FINE, SHIFT = 5, 1.5 * 2.0**18
STEPS = np.arange(1 << FINE)
TABLE = np.exp2(STEPS / (1 << FINE)).astype(np.float32).view(np.int32) - (STEPS << (23 - FINE)).astype(
    np.int32
)  # less the index's own bits, see `_power`
NEAR = _fit(lambda f: np.exp2(f) - 1, -1 / 64, 1 / 64, 2)
LOG1P = _fit(np.log1p, 0.0, 1.0, 11)  # log(1 + e)/e on [0, 1]

SETTINGS: Any = numba.config  # whose names numba sets as it is imported
AVX512 = (
    SETTINGS.CPU_NAME is None
    and SETTINGS.CPU_FEATURES is None
    and bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
)


class Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector16")


VECTOR = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, FLOATS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def _call(builder, name, *values):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(FLOATS, [FLOATS] * len(values)), f"llvm.{name}.v{LANES}f32"
    )
    return builder.call(function, values)


def _polynomial(builder, coefficients, x):
    total = _constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = _call(builder, "fma", total, x, _constant(c))
    return total


def _address(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), (HALVES if _half(kind) else FLOATS).as_pointer())


def _half(kind) -> bool:
    return bool(kind.dtype == types.int16)


def _integers(value: int) -> ir.Constant:
    return ir.Constant(INTS, [value] * LANES)


def _widened(builder, halves):
    return builder.bitcast(builder.shl(builder.zext(halves, INTS), _integers(16)), FLOATS)


def _halved(builder, vector):
    """To the nearest bfloat16, the even one of two as near; NaN stays one."""
    bits = builder.bitcast(vector, INTS)
    odd = builder.and_(builder.lshr(bits, _integers(16)), _integers(1))
    near = builder.lshr(builder.add(bits, builder.add(odd, _integers(0x7FFF))), _integers(16))
    return builder.trunc(
        builder.select(builder.fcmp_unordered("uno", vector, vector), _integers(0x7FC0), near), HALVES
    )


@intrinsic
def load(typingctx, array, index):
    """Sixteen numbers of a contiguous array from an index on."""

    def codegen(context, builder, signature, args):
        half = _half(signature.args[0])
        found = builder.load(
            _address(context, builder, signature.args[0], args[0], args[1]), align=2 if half else 4
        )
        return _widened(builder, found) if half else found

    return VECTOR(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Write sixteen numbers to a contiguous array from an index on."""

    def codegen(context, builder, signature, args):
        half = _half(signature.args[0])
        value = _halved(builder, args[2]) if half else args[2]
        builder.store(
            value, _address(context, builder, signature.args[0], args[0], args[1]), align=2 if half else 4
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), codegen


@intrinsic
def fetch(typingctx, array, index):
    """Ask for the line of memory around an index, to be read soon. Harmless beyond the array's end."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        # read, keep in all caches, data
        builder.call(function, [place, *(ir.Constant(number, k) for k in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def peek(typingctx, array, index):
    """One number of a contiguous float32 array; unlike ``array[index]`` without a look at negative
    indices."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]), align=4)

    return types.float32(array, types.intp), codegen


@intrinsic
def poke(typingctx, array, index, number):
    """Write one number to a contiguous float32 array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), codegen


@intrinsic
def splat(typingctx, number):
    """One float32 sixteen times."""

    def codegen(context, builder, signature, args):
        first = builder.insert_element(
            ir.Constant(FLOATS, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0)
        )
        return builder.shuffle_vector(
            first, ir.Constant(FLOATS, ir.Undefined), ir.Constant(INTS, [0] * LANES)
        )

    return VECTOR(types.float32), codegen


def _binary(name):
    @intrinsic
    def operation(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, name)(*args)

        return VECTOR(VECTOR, VECTOR), codegen

    return operation


add, sub, mul, div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def fma(typingctx, a, b, c):
    """a b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return _call(builder, "fma", *args)

    return VECTOR(VECTOR, VECTOR, VECTOR), codegen


@intrinsic
def largest(typingctx, a, b):
    """The larger of each pair; NaN where the first is NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[1], args[0])

    return VECTOR(VECTOR, VECTOR), codegen


@intrinsic
def choose(typingctx, a, b, x, y):
    """x where a < b, otherwise y."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), codegen


@intrinsic
def total(typingctx, vector):
    """The sum of the sixteen."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), FLOATS])
        function = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32"
        )
        return builder.call(function, [ir.Constant(ir.FloatType(), 0.0), args[0]], fastmath=("reassoc",))

    return types.float32(VECTOR), codegen


def _power(builder, x):
    """2^x for x in [−126, 127.5]; NaN passed on."""
    if not AVX512:
        whole = _call(builder, "nearbyint", x)
        mantissa = _polynomial(builder, EXP2, builder.fsub(x, whole))
        bits = builder.add(
            builder.bitcast(mantissa, INTS),
            builder.shl(builder.fptosi(whole, INTS), ir.Constant(INTS, [23] * LANES)),
        )
        return builder.bitcast(bits, FLOATS)
    shifted = builder.fadd(x, _constant(SHIFT))  # its lowest bits: 32x as an integer
    rest, number = builder.fsub(x, builder.fsub(shifted, _constant(SHIFT))), builder.bitcast(shifted, INTS)
    lower, upper = (ir.Constant(INTS, [int(v) for v in half]) for half in (TABLE[:LANES], TABLE[LANES:]))
    look_up = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(INTS, [INTS] * 3), "llvm.x86.avx512.vpermi2var.d.512"
    )
    found = builder.add(
        builder.call(look_up, [lower, number, upper]),
        builder.shl(number, ir.Constant(INTS, [23 - FINE] * LANES)),
    )
    near = builder.bitcast(found, FLOATS)
    return _call(builder, "fma", near, builder.fmul(_polynomial(builder, NEAR, rest), rest), near)


@intrinsic
def exp2(typingctx, vector):
    """2^x; 0 below −126, infinity above 127.5, NaN passed on."""

    def codegen(context, builder, signature, args):
        x = args[0]
        inside = builder.select(builder.fcmp_ordered("<", x, _constant(-126.0)), _constant(-126.0), x)
        inside = builder.select(builder.fcmp_ordered(">", inside, _constant(127.5)), _constant(127.5), inside)
        value = _power(builder, inside)
        value = builder.select(builder.fcmp_ordered("<", x, _constant(-126.0)), _constant(0.0), value)
        value = builder.select(builder.fcmp_ordered(">", x, _constant(127.5)), _constant(float("inf")), value)
        return builder.select(builder.fcmp_unordered("uno", x, x), x, value)

    return VECTOR(VECTOR), codegen


@intrinsic
def decay2(typingctx, vector):
    """2^x for x ≤ 127.5, with fewer instructions than `exp2`: 2^−126 below −126; NaN passed on."""

    def codegen(context, builder, signature, args):
        return _power(
            builder,
            builder.select(builder.fcmp_ordered("<", args[0], _constant(-126.0)), _constant(-126.0), args[0]),
        )

    return VECTOR(VECTOR), codegen


@intrinsic
def log1p(typingctx, vector):
    """log(1 + e) for e in [0, 1]."""

    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], _polynomial(builder, LOG1P, args[0]))

    return VECTOR(VECTOR), codegen


@intrinsic
def turn(typingctx, source, start, stride, target, place, step):
    """A 16 × 16 block transposed: row j is ``source[start + j·stride :][:16]``, its column i goes to
    ``target[place + i·step :][:16]``. In registers, by exchanging halves of 8, 4, 2 and 1 between pairs of
    rows."""

    def codegen(context, builder, signature, args):
        src, start, stride, dst, place, step = args
        size = start.type

        def at(kind, array, first, by, i):
            return _address(
                context, builder, kind, array, builder.add(first, builder.mul(by, ir.Constant(size, i)))
            )

        rows = [builder.load(at(signature.args[0], src, start, stride, j), align=4) for j in range(LANES)]
        for k in (8, 4, 2, 1):
            upper = ir.Constant(INTS, [lane if not lane & k else LANES + (lane ^ k) for lane in range(LANES)])
            lower = ir.Constant(INTS, [lane | k if not lane & k else LANES + lane for lane in range(LANES)])
            for i in range(LANES):
                if not i & k:
                    a, b = rows[i], rows[i | k]
                    rows[i], rows[i | k] = (
                        builder.shuffle_vector(a, b, upper),
                        builder.shuffle_vector(a, b, lower),
                    )
        for i in range(LANES):
            builder.store(rows[i], at(signature.args[3], dst, place, step, i), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


@njit(nogil=True, cache=True)
def sigmoid(x):
    """1/(1 + e^−x)."""
    return div(
        splat(np.float32(1.0)),
        add(splat(np.float32(1.0)), exp2(mul(x, splat(np.float32(-1.4426950408889634))))),
    )
