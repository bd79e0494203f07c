"""The C structures of `frame` in compiled functions: a pointer to one, whose fields are attributes.

A field that is an array is a pointer to its first element; `pointer[k]` is the k-th structure from there on.
"""

import ctypes
import operator

from llvmlite import ir
from numba import types as nt
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    models,
    register_model,
)

BYTE, WORD = ir.IntType(8), ir.IntType(64)
NUMBERS = {ctypes.c_int64: nt.int64, ctypes.c_float: nt.float32, ctypes.c_double: nt.float64}


class Pointer(nt.Type):
    """The type of a pointer to a structure."""

    def __init__(self, structure):
        self.structure = structure
        self.fields = {n: t for base in structure.__mro__ for n, t in vars(base).get("_fields_", ())}
        super().__init__(name=f"{structure.__name__} *")


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, BYTE.as_pointer())


def _kind(field):
    """The type of a field's value."""
    if not issubclass(field, ctypes.Array):
        return NUMBERS[field]
    return Pointer(field._type_) if issubclass(field._type_, ctypes.Structure) else nt.CPointer(NUMBERS[field._type_])


def _place(context, builder, kind, pointer, name):
    """Where a field lies, as a pointer to its value, or, of an array, to its first element."""
    offset = getattr(kind.structure, name).offset
    place = builder.gep(pointer, [ir.Constant(WORD, offset)])
    found = _kind(kind.fields[name])
    array = issubclass(kind.fields[name], ctypes.Array)
    to = context.get_value_type(found)
    return builder.bitcast(place, to if array else to.as_pointer()), array


@infer_getattr
class Fields(AttributeTemplate):
    key = Pointer

    def generic_resolve(self, kind, name):
        return _kind(kind.fields[name]) if name in kind.fields else None


@lower_getattr_generic(Pointer)
def get_field(context, builder, kind, pointer, name):
    place, array = _place(context, builder, kind, pointer, name)
    return place if array else builder.load(place)


@lower_setattr_generic(Pointer)
def set_field(context, builder, signature, args, name):
    place, _ = _place(context, builder, signature.args[0], args[0], name)
    builder.store(args[1], place)


@infer_global(operator.getitem)
class Element(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], nt.Integer):
            return signature(args[0], args[0], nt.int64)


@lower_builtin(operator.getitem, Pointer, nt.int64)
def get_element(context, builder, signature, args):
    size = ir.Constant(WORD, ctypes.sizeof(signature.args[0].structure))
    return builder.gep(args[0], [builder.mul(args[1], size)])


def pointer_to(structure):
    """An intrinsic that takes an address (int64) to a pointer to a structure."""

    @intrinsic
    def cast(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], BYTE.as_pointer())

        return Pointer(structure)(nt.int64), codegen

    return cast


def on_stack(structure):
    """An intrinsic that gives a pointer to a structure on the stack, whose content is what was there."""

    @intrinsic
    def memory(typingctx):
        def codegen(context, builder, signature, args):
            words = ir.ArrayType(WORD, (ctypes.sizeof(structure) + 7) // 8)
            return builder.bitcast(cgutils.alloca_once(builder, words), BYTE.as_pointer())

        return Pointer(structure)(), codegen

    return memory
