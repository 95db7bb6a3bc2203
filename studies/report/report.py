"""Writes a comparison as a page, as Markdown with pictures, and as CSV."""

from pathlib import Path

from studies.comparison import Comparison
from studies.report.findings import Findings, gather
from studies.report.page import comparison_page, config_texts
from studies.report.tables import differences_csv, tidy_csv
from system.atomic_file import write_atomically


def write_comparison(comparison: Comparison, folder: Path, with_photographs: bool = True) -> Path:
    """Writes report.html (self-contained), report.md with pictures/, report.csv, differences.csv and configs/.

    Args:
        comparison: What to show; every member has been measured under every degradation.
        folder: To write into; files of an earlier report are replaced.
        with_photographs: False leaves out degraded and target faces, which may not be published.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: A result, a run or a checkpoint is missing.
        ValueError: One of them is damaged, or results were not measured on identical pairs.
    """
    return write_findings(gather(comparison), folder, with_photographs)


def write_findings(findings: Findings, folder: Path, with_photographs: bool = True) -> Path:
    """Like `write_comparison`, from what was gathered already."""
    page = comparison_page(findings, with_photographs)
    for file, (_, text) in config_texts(findings).items():
        write_atomically(folder / file, text)
    write_atomically(folder / "report.csv", tidy_csv(findings))
    write_atomically(folder / "differences.csv", differences_csv(findings.differences))
    page.write_markdown(folder / "report.md")
    return page.write(folder / "report.html")
