"""Figures as people read them: significant digits, SI prefixes, shares, spans and gains."""

import math
from collections.abc import Iterable, Sequence

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def significant(value: float, digits: int = 4) -> str:
    """Return `value` to so many significant digits, never in scientific notation; inf and nan as such."""
    if value == 0 or not math.isfinite(value):
        return f"{abs(value) if value == 0 else value:.0f}"
    rounded = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, places)}f}"


def aligned(values: Sequence[float | None], digits: int = 5) -> list[str]:
    """Return `values` with equally many decimals, the largest with `digits` digits; "" for None."""
    largest = max((abs(v) for v in values if v and math.isfinite(v)), default=0.0)
    whole = math.floor(math.log10(largest)) + 1 if largest else 1
    places = max(0, digits - max(whole, 1))
    return ["" if value is None else f"{value:.{places}f}" for value in values]


def prefix(values: Iterable[float]) -> tuple[float, str]:
    """Return the factor and SI prefix in which the median of `values` has one to three digits."""
    ordered = sorted(abs(v) for v in values if v and math.isfinite(v))
    if not ordered:
        return 1.0, ""
    exponent = 3 * math.floor(math.log10(ordered[len(ordered) // 2]) / 3 + 1e-12)
    exponent = max(min(exponent, max(_PREFIXES)), min(_PREFIXES))
    return 10.0**-exponent, _PREFIXES[exponent]


def percent(part: float, whole: float) -> str:
    """Return a share in percent; "" where the whole is nothing."""
    return f"{100 * part / whole:.1f}" if whole else ""


def span(low: float, high: float) -> str:
    """Return `low–high`, each to three digits."""
    return f"{significant(low, 3)}–{significant(high, 3)}"


def times_less(improvement: float, digits: int) -> str:
    """How many times less something is: 2.1×, or 3.3× more where it is below one."""
    return (
        f"{improvement:.{digits}f}×" if improvement >= 1 else f"{1 / improvement:.{digits}f}× more"
    )


def count_text(count: int) -> str:
    """Return a count in full below a thousand million, else as a power of ten: 1.6×10¹⁵."""
    if count < 10**9:
        return f"{count:,}"
    mantissa, exponent = f"{count:.1e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
