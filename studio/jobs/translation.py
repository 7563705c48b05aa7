"""What a translation is asked for."""

from dataclasses import dataclass
from typing import Any

from studio.jobs import limits
from studio.jobs.typed import of_fields
from studio.jobs.uploads import check_names
from studio.runtime.seeds import parse_seeds
from studio.runtime.untrusted import parsed

DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Translation:
    """One run of a bridge. ``sources``: names of pictures that lie in the job's own folder; ``num_steps`` 0
    means the model's own; ``label``: a class for all, where the bridge has classes; ``resize`` converts
    pictures of another size or kind; ``mask``: the name of a picture whose white may change; ``sampler`` ""
    means the model's own."""

    bridge: str
    sources: tuple[str, ...] = ()
    num_steps: int = 0
    seed: int = 0
    resize: bool = True
    direction: str = "forward"
    label: str | None = None
    mask: str | None = None
    sampler: str = ""

    @classmethod
    def parse(cls, untrusted: Any, *, whole: bool = True) -> "Translation":
        """These fields by name, as JSON too; not ``whole``: of a form that has no pictures yet. Opens
        nothing. Raises ``ValueError`` for anything else."""
        made = of_fields(cls, parsed(untrusted) if isinstance(untrusted, str) else untrusted)
        made.check(whole=whole)
        return made

    def check(self, *, whole: bool = True) -> None:
        """Raises ``ValueError`` for what no bridge could do, before one is opened."""
        if not self.bridge or whole and not self.sources:
            raise ValueError("pick a bridge and one or more pictures first")
        limits.steps(self.num_steps or 1)
        parse_seeds(self.seed)
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"got direction {limits.brief(self.direction)}, expected {' or '.join(DIRECTIONS)}"
            )
        check_names((*self.sources, self.mask))
