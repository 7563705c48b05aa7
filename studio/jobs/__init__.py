"""Jobs and what they made: an index that survives the page, and the queue that works through it."""

from studio.jobs.found import adopt
from studio.jobs.index import Index
from studio.jobs.records import Item, Job, Wanted

__all__ = ["Index", "Item", "Job", "Wanted", "adopt"]
