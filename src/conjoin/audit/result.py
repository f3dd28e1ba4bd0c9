"""What an audit returns: findings, standings and rows, and the folder where all of it lies."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from conjoin.audit.schema import FindingRecord, Run, Standing
from conjoin.audit.store import Local, Store
from conjoin.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class AuditResult:
    """An audit that was carried out.

    Attributes:
        run: What ``run.json`` holds.
        store: Where report, rows and tensors lie.
    """

    run: Run
    store: Store

    @property
    def folder(self) -> Path:
        """Where report, rows and tensors lie, if that is a folder.

        Raises:
            DataError: If it is not.
        """
        if not isinstance(self.store, Local):
            raise DataError(f"the audit lies at {self.store.url}, no folder of this machine")
        return self.store.root

    def __repr__(self) -> str:
        """Show each model's verdict."""
        said = ", ".join(f"{s.model}: {s.verdict}" for s in self.run.standings)
        return f"AuditResult({said})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(s.model)}</th><td>{escape(s.verdict)}</td>"
            f"<td>{'<br>'.join(map(escape, s.reasons))}</td></tr>"
            for s in self.standings
        )
        return f"<table><tr><th>model</th><th>verdict</th><th>why</th></tr>{rows}</table>"

    @property
    def findings(self) -> tuple[FindingRecord, ...]:
        """All findings, in the order of the sections."""
        return self.run.findings

    @property
    def standings(self) -> tuple[Standing, ...]:
        """The models with their verdicts, best first."""
        return self.run.standings

    def table(self, section: str) -> pa.Table:
        """Return the rows of a section: one per model, key and example.

        Raises:
            DataError: If it wrote none.
        """
        name = f"rows/{section}.parquet"
        if not self.store.has(name):
            has = [there[5:-8] for there in self.store.names("rows")]
            raise DataError(
                f"no rows of {section!r}; there are those of {', '.join(has) or 'nothing'}"
            )
        return parquet.read_table(pa.BufferReader(self.store.read(name)))

    def to_frame(self, section: str) -> Any:
        """Return the rows of a section as a pandas data frame.

        Raises:
            DataError: If it wrote none, or pandas is not installed.
        """
        try:
            return self.table(section).to_pandas()
        except ImportError as error:
            raise DataError("to_frame needs pandas: pip install pandas; or use table()") from error

    def open(self) -> None:
        """Open the report in a browser."""
        webbrowser.open((self.folder / "report.html").resolve().as_uri())


__all__ = ["AuditResult"]
