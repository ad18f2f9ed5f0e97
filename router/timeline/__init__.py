"""A run's trace as pictures: a page for a browser, and a Chrome trace for Perfetto.

`python -m router.timeline RUN.json --out page.html` writes the page of a saved trace.
"""

from router.timeline.chrome import chrome_trace
from router.timeline.page import page

__all__ = ["chrome_trace", "page"]
