"""The report of `trainer.task data`: in the terminal, and as one HTML page with plots."""

from trainer.evaluation.data_report.console import print_description
from trainer.evaluation.data_report.page import write_page

__all__ = ["print_description", "write_page"]
