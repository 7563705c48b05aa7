"""What `studio info` and `studio flops` say of a model's plans."""

from pathlib import Path
from typing import Any

from backbones.registry import whole
from studio.checkpoints import plans
from studio.checkpoints.find import Card, card
from studio.model import catalog
from studio.model.cache_limit import size


def listed(shown: Card) -> dict[str, dict[str, Any]]:
    """By name what the plans of a model are for and what they cost; of a damaged one what is wrong."""
    known: set[str] = set(catalog.digests(shown).values())
    found: dict[str, dict[str, Any]] = {}
    for name, path in catalog.plan_files(shown).items():
        try:
            saved = plans.read(path)
        except (ValueError, OSError) as error:
            found[name] = {"about": str(error)}
            continue
        other = "" if saved.key.model in known else f", for other weights ({saved.key.model})"
        found[name] = {
            "about": saved.about + other,
            "num_steps": saved.key.num_steps,
            "sampler": saved.key.sampler,
            "guidance": saved.key.guidance,
            "weights": saved.key.model,
            **{k: saved.number(k) for k in ("flops", "error", "memory")},
        }
    return found


def run_cost(what: str, name: str, batch: int) -> dict[str, Any]:
    """What one run of one sample costs with a plan and without, in operations as `studio compress` counted
    them (a multiply-add counts as two), and the bytes that the plan keeps. Raises ``ValueError`` for a plan
    that is not there or does not say."""
    batch, shown = whole(batch, "batch"), card(what)
    there = catalog.plan_files(shown)
    path = Path(name).expanduser() if name.endswith(".json") else there.get(name)
    if path is None or not path.is_file():
        raise ValueError(plans.unknown(name, there, what, words=""))
    saved = plans.read(path)
    told = {k: saved.number(k) for k in ("gflops_before", "gflops", "flops", "memory")}
    if lacking := [k for k, value in told.items() if value is None]:
        raise ValueError(
            f"{path} does not say {', '.join(lacking)}; make the plan again with studio compress"
        )
    return {
        "plan": saved.name,
        "num_steps": saved.key.num_steps,
        "sampler": saved.key.sampler,
        "guidance": saved.key.guidance,
        "evaluations": saved.plan.total,
        **told,
        "error": saved.number("error"),
        "batch": batch,
        "batch_memory": int(batch * (told["memory"] or 0)),
    }


def lines(found: dict[str, Any]) -> dict[str, str]:
    """What `run_cost` found, for the eye."""
    f = found
    error = "" if f["error"] is None else f", error {f['error']:.3g}"
    return {
        "plan": f["plan"],
        "for": f"{f['num_steps']} steps of {f['sampler']}, guidance {f['guidance'] or 'none'}",
        "run": f"{f['evaluations']} evaluations, {f['gflops']:g} GFLOP a sample instead of "
        f"{f['gflops_before']:g} ({f['flops']:.0%}{error})",
        "keeps": f"{size(f['memory'])} a sample, {size(f['batch_memory'])} for a batch of {f['batch']}",
    }
