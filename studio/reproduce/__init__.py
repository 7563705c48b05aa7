"""`studio reproduce NAME`: a claim, the jobs that test it, and the page that is written from their numbers,
whichever way they fall.

A page is a `Page` in a module of its own and a line in ``PAGES``. Its jobs are cached one by one, so a run
that was stopped goes on.
"""

from studio.reproduce.command import reproduce
from studio.reproduce.jobs import Job, Page, Result
from studio.reproduce.pages import PAGES

__all__ = ["Job", "PAGES", "Page", "Result", "reproduce"]
