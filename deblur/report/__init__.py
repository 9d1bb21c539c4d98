"""The evidence as a page: pictures of what was measured and done, in one HTML file that stands alone."""

from deblur.report.colour import motion_to_rgb, motion_wheel
from deblur.report.frames import FrameRow
from deblur.report.html import Report, render_report

__all__ = ["FrameRow", "Report", "motion_to_rgb", "motion_wheel", "render_report"]
