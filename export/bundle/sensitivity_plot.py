"""The sensitivity of every convolution as a picture."""

import io
from collections.abc import Sequence

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from export.int8.layer_selection import LayerSensitivity

ALONE, ALL_BUT = "#0072b2", "#d55e00"
"""Blue and vermilion, which colour-blind readers tell apart; the markers differ as well."""


def sensitivity_plot(sensitivity: Sequence[LayerSensitivity]) -> bytes:
    """Draws what each convolution costs.

    Args:
        sensitivity: Of all convolutions, in the order of execution.

    Returns:
        SVG with the drops in PSNR on the left and the distance to the float network's images on the right.
    """
    names = [row.name for row in sensitivity]
    places = range(len(names))
    figure = Figure(figsize=(9, 1.2 + 0.19 * len(names)), layout="constrained")
    drops, distances = figure.subplots(1, 2, sharey=True)
    pairs = (
        ("alone in int8", ALONE, "o", [(row.drop_alone_db, row.psnr_to_float_alone_db) for row in sensitivity]),
        (
            "all but this in int8",
            ALL_BUT,
            "s",
            [(row.drop_all_but_db, row.psnr_to_float_all_but_db) for row in sensitivity],
        ),
    )
    for label, colour, marker, values in pairs:
        for axes, column in ((drops, 0), (distances, 1)):
            axes.plot([value[column] for value in values], places, marker, color=colour, label=label, markersize=4)
    drops.set_yticks(places, names, fontsize=7)
    drops.invert_yaxis()
    drops.set_xlabel("drop in PSNR against the clean faces, dB")
    distances.set_xlabel("PSNR against the float network's images, dB")
    for axes in (drops, distances):
        axes.grid(alpha=0.3)
    drops.legend(fontsize=8)
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
