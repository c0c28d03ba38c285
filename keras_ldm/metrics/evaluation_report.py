"""What was measured, and with what: as JSON, and as a table to read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LABELS = {
    "fid": "FID",
    "rfid": "rFID",
    "sfid": "sFID",
    "rsfid": "rsFID",
    "kid": "KID",
    "inception_score": "Inception Score",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS",
}
_DEVIATION = "_std"  # ends the name of a value's standard deviation


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of images, with what they depend on, without which they say nothing.

    Args:
        values: by name: fid, sfid, kid, kid_std, inception_score, inception_score_std, precision,
            recall, density, coverage, as far as they were measured.
        provenance: what they were measured with, as JSON can hold it: the features in words, how images
            were resized, the numbers of images, and the settings of each measure.
    """

    values: Mapping[str, float]
    provenance: Mapping[str, Any]

    def to_json(self) -> str:
        """Both, as JSON."""
        return json.dumps({"values": dict(self.values), "provenance": dict(self.provenance)}, indent=2)

    def table(self) -> str:
        """Both, as a table of Markdown: a value a row, then what it depends on."""
        rows = [
            (_LABELS.get(name, name.replace("_", " ").capitalize()), self._shown(name))
            for name in self.values
            if not (name.endswith(_DEVIATION) and name.removesuffix(_DEVIATION) in self.values)
        ]
        rows += _flat(self.provenance)
        width = max(len(label) for label, _ in rows)
        lines = [f"| {label:<{width}} | {value} |" for label, value in rows]
        return "\n".join([f"| {'':<{width}} | |", f"|{'-' * (width + 2)}|---|", *lines])

    def _shown(self, name: str) -> str:
        deviation = self.values.get(name + _DEVIATION)
        spread = "" if deviation is None else f" ± {deviation:.2g}"
        return f"{self.values[name]:.4g}{spread}"


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Rows of what may hold further mappings."""
    rows = []
    for name, value in values.items():
        label = f"{above}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{label}: ")
        elif value is not None:
            rows.append((label, f"{value:,}" if type(value) is int else str(value)))
    return rows
