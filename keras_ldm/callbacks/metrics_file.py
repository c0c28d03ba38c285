"""A CSV file of measures, a row an epoch, that a training which is continued continues."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_ldm.files import atomic_write


class MetricsFile:
    """A file with the columns `epoch` and the names of measures.

    It is written anew for each row, beside and renamed, so that it is whole at any time. A last line
    that is not, of a process that ended while it wrote, is left out.

    Args:
        path: where it is, or will be.
        names: of the measures.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.columns = ["epoch", *names]

    def rows(self) -> list[list[str]]:
        """What the file holds, without the names of the columns; nothing where there is none.

        Raises:
            ValueError: if it has other columns, or rows that are not those of epochs.
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
        rows.append([str(epoch), *(repr(float(values[name])) for name in self.columns[1:])])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *rows])
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode())
