"""JSON Schema of settings and requests, as the standard has it."""

from typing import Any

from probes.fields import show_duration


def standard(part: Any) -> Any:
    """What pydantic makes, mended: durations and sizes are written as strings, and their bounds and defaults were told in numbers."""
    if isinstance(part, dict):
        kept = {k: standard(v) for k, v in part.items() if not (k in {"gt", "ge", "lt", "le"} and isinstance(v, int | float))}
        default = kept.get("default")
        if kept.get("type") == "string" and isinstance(default, int | float):
            kept["default"] = show_duration(default) if isinstance(default, float) else f"{default}B"
        return kept
    return [standard(item) for item in part] if isinstance(part, list) else part
