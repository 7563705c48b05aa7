"""The pages there are, by the name that `studio reproduce` takes."""

PAGES = {
    "wcfm": "studio.reproduce.wcfm_page:page",
    "balanced": "studio.reproduce.balanced:page",
    "bridge": "studio.reproduce.bridge_page:page",
    "ddpm": "studio.reproduce.ddpm:page",
    "noise-starts": "studio.reproduce.noise_starts:page",
    "noise-free-conditioning": "studio.reproduce.noise_free:page",
    "tcfg": "studio.reproduce.tangential_page:page",
    "prior-swap": "studio.reproduce.prior_swap:page",
    "guidance-frontier": "studio.reproduce.frontier:page",
    "linear-cost": "studio.reproduce.linear_cost:page",
    "graph-control": "studio.reproduce.graph_control_page:page",
    "cheaper": "studio.reproduce.cheaper:page",
    "protein": "studio.reproduce.protein:page",
    "posterior": "studio.reproduce.posterior:page",
    "nb-regression": "studio.reproduce.nb_regression:page",
    "backbones": "studio.reproduce.without_attention_page:page",
    "battery": "studio.reproduce.battery_page:page",
}
