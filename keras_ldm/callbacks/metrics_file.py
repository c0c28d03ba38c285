"""A CSV file of measures, a row an epoch, that a training which is continued continues."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_ldm.files import atomic_write


class MetricsFile:
    """A file with the columns `epoch`, the names of measures, and what they were measured with.

    It is written anew for each row, beside and renamed, so that it is whole at any time. A last line
    that is not, of a process that ended while it wrote, is left out.

    Args:
        path: where it is, or will be.
        names: of the measures.
        measured_with: by the name of its column, what is the same in each row.
    """

    def __init__(
        self, path: Path, names: Sequence[str], measured_with: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.measured_with = dict(measured_with or {})
        self.columns = ["epoch", *names, *self.measured_with]

    def rows(self) -> list[list[str]]:
        """What the file holds, without the names of the columns; nothing where there is none.

        Raises:
            ValueError: if it has other columns, rows that are not those of epochs, or some that were
                measured with something else.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text("utf-8")
        rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
        if not rows:
            return []
        for row in rows[1:]:
            if len(row) != len(self.columns) or not row[0].isdecimal():
                raise ValueError(
                    f"Expected rows of {self.columns} in {str(self.path)!r}. Received: {row}"
                )
        if rows[0] != self.columns:
            raise ValueError(
                f"Expected the columns {self.columns} in {str(self.path)!r}, which this training would "
                f"continue; another folder has room for others. Received: {rows[0]}"
            )
        for row in rows[1:]:
            there = dict(zip(self.columns, row, strict=True))
            if any(there[name] != value for name, value in self.measured_with.items()):
                raise ValueError(
                    f"Expected rows measured with {self.measured_with} in {str(self.path)!r}, which "
                    "this training would continue; another folder has room for others. Received: "
                    f"{ {name: there[name] for name in self.measured_with} }"
                )
        return rows[1:]

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds the row of an epoch.

        Rows of that epoch and of later ones go: they are of a training that was set back.

        Args:
            epoch: its number, from 1.
            values: a number for each column.

        Raises:
            ValueError: see `rows`.
        """
        rows = [row for row in self.rows() if int(row[0]) < epoch]
        names = self.columns[1 : len(self.columns) - len(self.measured_with)]
        numbers = [repr(float(values[name])) for name in names]
        rows.append([str(epoch), *numbers, *self.measured_with.values()])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *rows])
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode())
