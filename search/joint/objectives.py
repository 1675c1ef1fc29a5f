"""What a search may minimise, and the column of the costs that says it."""

COLUMN = {"perplexity": "perplexity", "edp": "edp_js", "latency": "latency_s",
          "energy": "energy_j", "area": "area_mm2"}  # fmt: skip
OBJECTIVES = tuple(COLUMN)
