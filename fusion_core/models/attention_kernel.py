"""Attention for the CPU, made for SSDiff's heads of 16 channels: machine code that llvmlite makes where it runs.

PyTorch's fused attention is made for wider heads.  Here one vector register holds one channel of 16 queries (where registers
are shorter, several stand for one): a key takes one multiplication per channel, no sum runs across a
register, and the exponential is a polynomial in the same registers.

Keys come in blocks; each query keeps its largest logit so far, the sum of the weights and the weighted values, and rescales both
where a block holds a larger one (Milakov and Gimelshein 2018, arXiv 1805.02867): no logit over- or underflows.
A query's result depends on nothing but its own row, the keys and the values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from llvmlite import binding, ir

from .ssdiff import HEAD_WIDTH

LANES = 16
"""Queries at a time; with AVX2's registers of 8 numbers it is faster than 8 at a time, too."""
KEY_BLOCK = 128
"""Keys whose logits wait in the first-level cache."""
LOWEST = -126.0
"""Weights below 2 to this power count as that: float32 has no normal number below."""
ROUNDING = 1.5 * 2.0**23
"""A float32 of at most 2**22 plus this is a whole number, in two's complement in the last bits."""
LARGEST = 3e38
"""About the largest float32."""
MANTISSA_BITS = 23
POWER_OF_TWO = (1.00000012, 0.693146944, 0.240221202, 0.0555071309, 0.00967554096, 0.00132764713)
"""2**f for f in [-1/2, 1/2] as a polynomial; relative error 7.5e-8, 2.2e-7 with rounding."""

FLOAT, INT = ir.FloatType(), ir.IntType(64)
POINTER = FLOAT.as_pointer()


class _Writer:
    """Instructions on vectors of ``LANES`` queries, written one after the other into a function."""

    def __init__(self, function: ir.Function) -> None:
        self.at = ir.IRBuilder(function.append_basic_block("entry"))
        self.vector = ir.VectorType(FLOAT, LANES)
        self.integers = ir.VectorType(ir.IntType(32), LANES)
        three = ir.FunctionType(self.vector, [self.vector] * 3)
        self.multiply_add = ir.Function(function.module, three, f"llvm.fmuladd.v{LANES}f32")

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [value] * LANES)

    def integer(self, value: int) -> ir.Constant:
        return ir.Constant(self.integers, [value] * LANES)

    def number(self, start: ir.Value, offset: ir.Value | int) -> ir.Value:
        """The address ``offset`` numbers or vectors after ``start``."""
        return self.at.gep(start, [INT(offset) if isinstance(offset, int) else offset])

    def everywhere(self, number: ir.Value) -> ir.Value:
        """The number in every lane."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.at.insert_element(empty, number, ir.IntType(32)(0))
        return self.at.shuffle_vector(first, empty, self.integer(0))

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.at.call(self.multiply_add, [a, b, c])

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger one; b where either is not a number."""
        return self.at.select(self.at.fcmp_ordered(">", a, b), a, b)

    def smaller(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The smaller one of two integers."""
        return self.at.select(self.at.icmp_signed("<", a, b), a, b)

    def exp2(self, x: ir.Value) -> ir.Value:
        """2**x for x <= 0."""
        x = self.larger(self.constant(LOWEST), x)
        shifted = self.at.fadd(x, self.constant(ROUNDING))
        fraction = self.at.fsub(x, self.at.fsub(shifted, self.constant(ROUNDING)))
        power = self.constant(POWER_OF_TWO[-1])
        for coefficient in reversed(POWER_OF_TWO[:-1]):
            power = self.fma(power, fraction, self.constant(coefficient))
        whole = self.at.bitcast(shifted, self.integers)
        exponent = self.at.shl(whole, self.integer(MANTISSA_BITS))
        raised = self.at.add(self.at.bitcast(power, self.integers), exponent)
        return self.at.bitcast(raised, self.vector)

    def loop(
        self,
        stop: ir.Value,
        step: int,
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
        carried: tuple[ir.Value, ...] = (),
    ) -> list[ir.Value]:
        """``for i in range(0, stop, step): carried = body(i, carried)``, at least once."""
        before = self.at.block
        head = self.at.append_basic_block("loop")
        after = self.at.append_basic_block("after")
        self.at.branch(head)
        self.at.position_at_end(head)
        index = self.at.phi(INT)
        index.add_incoming(INT(0), before)
        values = []
        for value in carried:
            values.append(self.at.phi(value.type))
            values[-1].add_incoming(value, before)
        results = body(index, values)
        following = self.at.add(index, INT(step))
        last = self.at.block
        index.add_incoming(following, last)
        for value, result in zip(values, results):
            value.add_incoming(result, last)
        self.at.cbranch(self.at.icmp_signed("<", following, stop), head, after)
        self.at.position_at_end(after)
        return results


def build_module() -> ir.Module:
    """The function ``attention`` in LLVM's language.

    Its arguments, for one head: addresses of q, k, v (tokens, 16), mixing (16, 16) and out (tokens, 16), all float32; how many
    numbers a row of q, k, v and out lies after the one before; tokens, at least ``LANES``; what q kᵀ is
    multiplied with before it becomes a power of two.  out = (softmax(q kᵀ) v) * (q mixing).
    """
    module = ir.Module(name="attention")
    arguments = [POINTER] * 5 + [INT] * 5 + [FLOAT]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "attention")
    queries, keys, values, mixing, out, q_row, k_row, v_row, out_row, tokens, scale = function.args
    write = _Writer(function)
    at = write.at
    logits = at.alloca(write.vector, KEY_BLOCK)
    # One channel of all queries to a register each; rows turn into registers and back by way of memory.
    square = at.alloca(write.vector, HEAD_WIDTH)
    numbers = at.bitcast(square, POINTER)
    total, largest, *sums = (at.alloca(write.vector) for _ in range(2 + HEAD_WIDTH))

    def for_queries(position: ir.Value, _: list) -> list:
        # The last queries are computed again with some before them rather than fewer at a time.
        first = write.smaller(position, at.sub(tokens, INT(LANES)))

        def read(lane: ir.Value, _: list) -> list:
            row = write.number(queries, at.mul(at.add(first, lane), q_row))
            for channel in range(HEAD_WIDTH):
                value = at.fmul(at.load(write.number(row, channel)), scale)
                at.store(value, write.number(numbers, at.add(INT(channel * LANES), lane)))
            return []

        write.loop(INT(LANES), 1, read)
        query = [at.load(write.number(square, channel)) for channel in range(HEAD_WIDTH)]
        for register in (total, *sums):
            at.store(write.constant(0.0), register)
        at.store(write.constant(-LARGEST), largest)

        def for_keys(start: ir.Value, _: list) -> list:
            count = write.smaller(INT(KEY_BLOCK), at.sub(tokens, start))

            def compare(key: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                row = write.number(keys, at.mul(at.add(start, key), k_row))
                # Two sums: the second does not wait for the first.
                halves = [write.constant(0.0)] * 2
                for channel in range(HEAD_WIDTH):
                    number = write.everywhere(at.load(write.number(row, channel)))
                    halves[channel % 2] = write.fma(query[channel], number, halves[channel % 2])
                logit = at.fadd(*halves)
                at.store(logit, write.number(logits, key))
                return [write.larger(carried[0], logit)]

            before = at.load(largest)
            (now,) = write.loop(count, 1, compare, (before,))
            at.store(now, largest)

            def weigh(key: ir.Value, _: list) -> list:
                place = write.number(logits, key)
                at.store(write.exp2(at.fsub(at.load(place), now)), place)
                return []

            write.loop(count, 1, weigh)

            def gather(key: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                weight = at.load(write.number(logits, key))
                row = write.number(values, at.mul(at.add(start, key), v_row))
                results = [at.fadd(carried[0], weight)]
                for channel in range(HEAD_WIDTH):
                    number = write.everywhere(at.load(write.number(row, channel)))
                    results.append(write.fma(weight, number, carried[1 + channel]))
                return results

            # Every block has sums of its own: short sums round less.
            shrink = write.exp2(at.fsub(before, now))
            block = write.loop(count, 1, gather, (write.constant(0.0),) * (1 + HEAD_WIDTH))
            for register, result in zip((total, *sums), block):
                at.store(write.fma(at.load(register), shrink, result), register)
            return []

        write.loop(tokens, KEY_BLOCK, for_keys)
        _mix(write, mixing, query, total, sums, scale, square)

        def store(lane: ir.Value, _: list) -> list:
            row = write.number(out, at.mul(at.add(first, lane), out_row))
            for channel in range(HEAD_WIDTH):
                value = at.load(write.number(numbers, at.add(INT(channel * LANES), lane)))
                at.store(value, write.number(row, channel))
            return []

        write.loop(INT(LANES), 1, store)
        return []

    write.loop(tokens, LANES, for_queries)
    at.ret_void()
    return module


def _mix(
    write: _Writer,
    mixing: ir.Value,
    query: list[ir.Value],
    total: ir.Value,
    sums: list[ir.Value],
    scale: ir.Value,
    square: ir.Value,
) -> None:
    """Divide by the total, and multiply with the query's own mixture."""
    at = write.at
    # The queries in the registers are scaled.
    divisor = at.fmul(at.load(total), write.everywhere(scale))
    inverse = at.fdiv(write.constant(1.0), divisor)
    for channel, register in enumerate(sums):
        mixture = write.constant(0.0)
        for source in range(HEAD_WIDTH):
            weight = write.everywhere(at.load(write.number(mixing, source * HEAD_WIDTH + channel)))
            mixture = write.fma(query[source], weight, mixture)
        gathered = at.fmul(at.load(register), inverse)
        at.store(at.fmul(gathered, mixture), write.number(square, channel))


@cache
def compiled_attention() -> Callable[..., None]:
    """``build_module`` as machine code for this processor: a tenth of a second, once a process."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    # The features on top of the name: a virtual machine may hide some of its processor's.
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3
    )
    module = binding.parse_assembly(str(build_module()))
    module.verify()
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    addresses, numbers = [ctypes.c_void_p] * 5, [ctypes.c_int64] * 5
    # ctypes lets go of Python's lock during a call: threads compute side by side.
    function = ctypes.CFUNCTYPE(None, *addresses, *numbers, ctypes.c_float)(
        engine.get_function_address("attention")
    )
    # The machine code lives as long as its engine.
    function.engine = engine
    return function
