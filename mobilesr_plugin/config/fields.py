"""Types of the values in an option file, each with the words for what is allowed.

All are strict: BasicSR computes with values as YAML gives them, so text never passes for a number. Whole
floats pass for integers only where BasicSR does no more than compare or count with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

NOT_ALLOWED = "not_allowed"  # pydantic's name for the errors of this module


@dataclass(frozen=True)
class Allowed:
    """What a field takes, in words: one message in the place of pydantic's, also for unions and lists."""

    text: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source),
            NOT_ALLOWED,
            custom_error_message="{text}",
            custom_error_context={"text": self.text},
        )


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError
    return value


def _switch(value: Any) -> Any:
    # BasicSR asks only whether it is true, so 0, 1 and ~ work as well; text would always be true.
    if value is None or (isinstance(value, (bool, int)) and value in (0, 1)):
        return bool(value)
    raise ValueError


_Real = Annotated[float, Strict(), BeforeValidator(_no_bool)]
_Integer = Annotated[int, Strict()]
_Text = Annotated[str, Strict()]

Number = Annotated[_Real, Allowed("a number")]
FiniteNumber = Annotated[_Real, Field(allow_inf_nan=False), Allowed("a finite number")]
PositiveNumber = Annotated[_Real, Field(gt=0), Allowed("a number above 0")]
NumberFrom0 = Annotated[_Real, Field(ge=0, allow_inf_nan=False), Allowed("a number of at least 0")]
NumberUpTo1 = Annotated[_Real, Field(le=1), Allowed("a number of at most 1")]
Numbers = Annotated[list[_Real], Strict(), Allowed("a list of numbers such as [0.5, 1]")]
PositiveNumbers = Annotated[
    list[Annotated[_Real, Field(gt=0)]], Strict(), Field(min_length=1), Allowed("a list of numbers above 0")
]
Weights = Annotated[dict[str, _Real], Strict(), Allowed("a block of layers and numbers, such as conv5_4: 1")]
Betas = Annotated[
    list[Annotated[_Real, Field(ge=0, lt=1)]],
    Strict(),
    Field(min_length=2, max_length=2),
    Allowed("a list of two numbers from 0 to below 1, such as [0.9, 0.99]"),
]

PositiveInteger = Annotated[_Integer, Field(ge=1), Allowed("an integer of at least 1")]
IntegerFrom0 = Annotated[_Integer, Field(ge=0), Allowed("an integer of at least 0")]
AnyInteger = Annotated[_Integer, Allowed("an integer")]
# numpy takes no other seed, and BasicSR adds the rank.
Seed = Annotated[
    Annotated[_Integer, Field(ge=0, lt=2**31)] | None,
    Allowed("an integer of at least 0 and below 2**31, or ~"),
]
Devices = Annotated[
    Annotated[_Integer, Field(ge=0)] | Literal["auto"], Allowed("auto, or an integer of at least 0")
]

Switch = Annotated[bool, BeforeValidator(_switch), Allowed("true or false")]

Text = Annotated[_Text, Field(min_length=1), Allowed("text; quote it where it looks like a number")]
OptionalText = Annotated[_Text | None, Allowed("text, or ~")]
Label = Annotated[_Text | _Integer | _Real | None, Allowed("text")]
Block = Annotated[dict[Any, Any], Strict(), Allowed("a block of keys")]
OptionalBlock = Annotated[dict[Any, Any] | None, Strict(), Allowed("a block of keys, or ~")]


def _template(value: str) -> str:
    try:
        if value.format("name") == value:
            raise ValueError
    except (IndexError, KeyError, AttributeError) as error:
        raise ValueError from error
    return value


FileNameTemplate = Annotated[
    _Text, AfterValidator(_template), Allowed("quoted text with {} for the name, such as '{}x3'")
]


Prefetching = Annotated[Literal["cpu", "cuda"] | None, Allowed("cpu, cuda or ~")]
Backend = Annotated[Literal["disk", "lmdb", "memcached"], Allowed("one of disk, lmdb, memcached")]
Reduction = Annotated[Literal["none", "mean", "sum"], Allowed("one of none, mean, sum")]
Criterion = Annotated[Literal["l1", "l2", "fro"], Allowed("one of l1, l2, fro")]
ImageOrder = Annotated[Literal["HWC", "CHW"], Allowed("HWC or CHW")]
Better = Annotated[Literal["higher", "lower"], Allowed("higher or lower")]
