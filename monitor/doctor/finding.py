"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on one thing, and what to do about it. A fault keeps Tillwatch from doing what it promises."""

    check: str
    result: Result
    says: str
    mend: str = ""
