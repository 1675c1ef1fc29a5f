"""The plot of a training, as PNG bytes that the same data always reproduce."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codesign.search.pricing.plots import figure_style

if TYPE_CHECKING:
    from codesign.models.supernet.training_state import TrainingStep

_KINDS = {"smallest": "#D55E00", "random": "#B8BFC6", "largest": "#0072B2"}  # the last is on top
_NAMES = {"smallest": "smallest", "random": "random ones", "largest": "largest"}


def training_plot(log: "Sequence[TrainingStep]", distil: bool) -> bytes:
    """Losses and the learning rate over epochs; `distil`: of smaller ones on the largest's output."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    per_epoch = max(step.step for step in log)
    epochs = np.array([step.epoch - 1 + step.step / per_epoch for step in log])
    with figure_style():
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        losses, rates = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        for kind, colour in _KINDS.items():
            values = np.array([getattr(step, kind) for step in log], dtype=float)  # None is nan
            if not np.isnan(values).all():
                target = "largest's output" if distil and kind != "largest" else "text"
                label = f"{_NAMES[kind]}, on the {target}"
                losses.plot(epochs, values, color=colour, linewidth=0.8, label=label)
        losses.set_ylabel("loss (nats a token)")
        losses.legend()
        losses.set_title(f"Training: {len(log):,} steps")
        rates.plot(epochs, [step.learning_rate for step in log], color="#22272B")
        rates.set_ylabel("learning rate")
        rates.set_xlabel("epochs")
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=160, metadata={"Software": None})
    return sink.getvalue()
