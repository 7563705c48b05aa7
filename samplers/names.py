"""What paths, couplings and parameterisations are, in a line each, and what papers and other libraries call
them. A part may be asked for by such a name, in any spelling (``W-CFM``, ``wcfm``); configs record ours."""

from collections.abc import Mapping
from typing import Any

PARTS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "path": {
        "linear": ("straight lines between noise and data", ("rectified flow", "rf", "condot", "sit linear")),
        "lipman": (
            "straight lines that end with a little noise about the data (Lipman et al. 2210.02747)",
            ("fm", "flow matching", "fm-ot"),
        ),
        "trig": ("a quarter of a circle, variance preserving", ("gvp", "cosine interpolant")),
        "vp": (
            "a variance-preserving table of betas: linear, cosine ... (DDPM, ADM, DiT)",
            ("ddpm", "variance preserving"),
        ),
        "edm": (
            "variance exploding, by sigma (Karras et al. 2206.00364)",
            ("ve", "karras", "variance exploding"),
        ),
        "brownian": ("a Brownian bridge between two data sets", ("brownian bridge", "sb", "dsbm", "sf2m")),
        "i2sb": ("a bridge with a schedule of betas (Liu et al. 2302.05872)", ()),
        "graph": (
            "categorical noise on atoms and bonds (DiGress 2209.14734, Graph DiT 2401.13858)",
            ("digress", "marginal"),
        ),
        "geodesic": (
            "of angles: the shortest way on the circle (Chen & Lipman 2302.03660)",
            ("riemannian flow matching", "rfm"),
        ),
        "wrapped_vp": (
            "of angles: a vp table wound about the circle (FoldingDiff 2209.15611)",
            ("foldingdiff",),
        ),
        "masked": (
            "of tokens: masked, or replaced at random (MDLM 2406.07524, MaskGIT 2202.04200)",
            ("mdlm", "maskgit", "absorbing"),
        ),
    },
    "coupling": {
        "independent": ("every data point with its own draw of noise", ("cfm", "i-cfm")),
        "ot": (
            "exact optimal transport within the batch (Tong et al. 2302.00482, Pooladian et al. 2304.14772)",
            ("ot-cfm", "multisample"),
        ),
        "sinkhorn": ("pairs of the entropic plan of the batch", ("entropic ot", "eot")),
        "gibbs": (
            "independent pairs, weighted by exp(-cost/eps) (Calvo-Ordoñez et al. 2507.22270)",
            ("w-cfm", "weighted cfm"),
        ),
        "paired": ("the source that came with each data point", ("aligned",)),
    },
    "parameterization": {
        "noise": ("the noise in the state; learned variances with it", ("eps", "epsilon", "eps prediction")),
        "data": ("the clean data", ("x0", "sample", "x prediction", "x-pred")),
        "v": ("alpha·noise − sigma·data (Salimans & Ho 2202.00512)", ("v prediction", "v-pred")),
        "velocity": (
            "the derivative of the state along the path; of bridges the flow",
            ("flow", "flow prediction"),
        ),
        "score": ("the gradient of the log-density", ("s",)),
        "edm": (
            "preconditioned data, c_skip·x + c_out·F (Karras et al. 2206.00364)",
            ("karras", "preconditioned"),
        ),
        "displacement": ("of bridges: from the state to the data, in units of the noise (I²SB)", ()),
        "drift": ("of bridges: the drift of the process", ()),
        "flow_score": ("of bridges: flow and score side by side ([SF]²M 2307.03672)", ()),
        "logits": ("of graphs: the types of atoms and bonds of the clean graph", ()),
    },
}


def _bare(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


OURS = {
    kind: {_bare(alias): name for name, (_, known) in parts.items() for alias in known}
    for kind, parts in PARTS.items()
}


def canonical(kind: str, spec: Any) -> Any:
    """``"wcfm"`` or ``{"name": "wcfm", options}`` with the name that the registry has; anything else as it
    is."""
    if isinstance(spec, Mapping):
        return {**spec, "name": canonical(kind, spec["name"])} if isinstance(spec.get("name"), str) else spec
    if not isinstance(spec, str) or spec in PARTS[kind]:
        return spec
    return OURS[kind].get(_bare(spec), spec)


def ours(objective: Mapping[str, Any]) -> dict[str, Any]:
    """An ``objective`` section by our names."""
    return {k: canonical(k, v) if k in PARTS else v for k, v in objective.items()}
