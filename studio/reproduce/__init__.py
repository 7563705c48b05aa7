"""`studio reproduce NAME`: a claim, the jobs that test it, and the page that is written from their numbers, whichever way they fall.

A page is a `Page` in a module of its own and a line in ``PAGES``. Its jobs are cached one by one, so a run that was stopped goes on.
"""

from studio.reproduce.command import reproduce
from studio.reproduce.jobs import Job, Page, Result

__all__ = ["Job", "PAGES", "Page", "Result", "reproduce"]

PAGES = {
    "wcfm": "studio.reproduce.wcfm:page",
    "balanced": "studio.reproduce.balanced:page",
    "bridge": "studio.reproduce.bridge:page",
    "ddpm": "studio.reproduce.ddpm:page",
    "noise-starts": "studio.reproduce.noise_starts:page",
    "noise-free-conditioning": "studio.reproduce.noise_free:page",
    "tcfg": "studio.reproduce.tangential:page",
    "prior-swap": "studio.reproduce.prior_swap:page",
    "guidance-frontier": "studio.reproduce.frontier:page",
    "linear-cost": "studio.reproduce.linear_cost:page",
    "graph-control": "studio.reproduce.graph_control:page",
    "backbones": "studio.reproduce.without_attention:page",
}
