"""The standard panel: what is measured unless somebody asks for something else.

No single number covers strengths from 0 to 1: fine structure and GMSD are spent by about 0.5, coarse structure and
colour move above it. So the panel goes by scale.
"""

from __future__ import annotations

from sweep.study.metrics import colour as tone
from sweep.study.metrics import structure
from sweep.study.metrics.base import Formula, Metric

WANG = "Wang, Bovik, Sheikh and Simoncelli 2004, doi:10.1109/TIP.2003.819861"
WANG_MS = "Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216"
BURT = "Pyramid of Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851; Pearson's r"
XUE = "Xue, Zhang, Mou and Bovik 2014, doi:10.1109/TIP.2013.2293423"
OKLAB = "OKLab of B. Ottosson 2020, bottosson.github.io/posts/oklab"
RUBNER = "Rubner, Tomasi and Guibas 2000, doi:10.1023/A:1026543900054"
KRAWETZ = "N. Krawetz 2011, hackerfactor.com (Looks like it), at 16 × 16"
SUBBARAO = "after Subbarao, Choi and Nikzad 1993, doi:10.1117/12.147706"
PELI = "Peli 1990, doi:10.1364/JOSAA.7.002032"
HASLER = "Hasler and Süsstrunk 2003, doi:10.1117/12.477378"
SHANNON = "Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x"

FULL_REFERENCE: tuple[Metric, ...] = (
    Formula(
        name="ssim",
        label="SSIM",
        summary="Likeness of local structure, spent early on a strength axis. It does not see colour.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=9.0,
        source=WANG,
        function=structure.ssim,
    ),
    Formula(
        name="ms_ssim",
        label="MS-SSIM",
        summary="Likeness of structure over five scales. It does not see colour, nor what a thing is.",
        direction="higher",
        range=(0.0, 1.0),
        reference="image",
        cost=4.0,
        source=WANG_MS,
        function=structure.ms_ssim,
    ),
    Formula(
        name="structure_fine",
        label="fine detail",
        summary="Correlation of the finest detail: separates low strengths. A shift of the image spoils it.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=4.0,
        source=BURT,
        function=structure.fine,
    ),
    Formula(
        name="structure_middle",
        label="shapes",
        summary="Correlation of shapes of a fortieth of the image: separates middle strengths. It does not see colour.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=1.0,
        source=BURT,
        function=structure.middle,
    ),
    Formula(
        name="structure_coarse",
        label="layout of light and dark",
        summary="Correlation of where light and dark lie: separates high strengths. It does not see blur, nor things.",
        direction="higher",
        range=(-1.0, 1.0),
        reference="image",
        cost=0.5,
        source=BURT,
        function=structure.coarse,
    ),
    Formula(
        name="gmsd",
        label="gradient deviation (GMSD)",
        summary="How unevenly edges changed. It does not see colour, nor an even change.",
        direction="lower",
        range=(0.0, 0.5),
        reference="image",
        cost=1.5,
        source=XUE,
        function=structure.gmsd,
    ),
    Formula(
        name="delta_e",
        label="colour difference",
        summary="Mean difference of colour and tone; 2 is about a just visible step. It does not see texture.",
        direction="lower",
        range=(0.0, None),
        reference="image",
        cost=1.5,
        source=OKLAB,
        function=tone.delta_e,
        unit="ΔE (OKLab × 100)",
    ),
    Formula(
        name="tone_emd",
        label="tonal shift",
        summary="How far tones moved. It does not see where in the image, nor colour.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=1.0,
        source=RUBNER,
        function=tone.tone_emd,
        unit="of the tonal range",
    ),
    Formula(
        name="phash_distance",
        label="pHash distance",
        summary="Share of differing bits of a perceptual hash: another image at a glance. It does not see detail.",
        direction="lower",
        range=(0.0, 1.0),
        reference="image",
        cost=1.5,
        source=KRAWETZ,
        function=structure.phash_distance,
    ),
)

NO_REFERENCE: tuple[Metric, ...] = (
    Formula(
        name="sharpness",
        label="sharpness",
        summary="Strength of the finest detail.",
        direction="neutral",
        range=(0.0, 255.0),
        reference="none",
        cost=0.5,
        source=SUBBARAO,
        function=tone.sharpness,
        unit="luma codes",
    ),
    Formula(
        name="contrast",
        label="contrast",
        summary="Spread of tones.",
        direction="neutral",
        range=(0.0, 0.5),
        reference="none",
        cost=0.3,
        source=PELI,
        function=tone.contrast,
        unit="of the tonal range",
    ),
    Formula(
        name="colourfulness",
        label="colourfulness",
        summary="From 0 (grey) to above 100 (extremely colourful).",
        direction="neutral",
        range=(0.0, None),
        reference="none",
        cost=3.0,
        source=HASLER,
        function=tone.colourfulness,
    ),
    Formula(
        name="entropy",
        label="entropy",
        summary="How evenly all tones are used.",
        direction="neutral",
        range=(0.0, 8.0),
        reference="none",
        cost=0.2,
        source=SHANNON,
        function=tone.entropy,
        unit="bit",
    ),
)

DIVERSITY: tuple[Metric, ...] = (
    Formula(
        name="diversity",
        label="diversity of colour",
        summary="Mean colour difference between the images of one cell, across seeds.",
        direction="neutral",
        range=(0.0, None),
        reference="cell",
        cost=0.3,
        source=OKLAB,
        function=tone.diversity,
        unit="ΔE (OKLab × 100)",
        working_size=128,
    ),
    Formula(
        name="diversity_structure",
        label="diversity of composition",
        summary="Mean difference of layout between the images of one cell, across seeds.",
        direction="neutral",
        range=(0.0, 2.0),
        reference="cell",
        cost=0.3,
        source=BURT,
        function=tone.diversity_structure,
        working_size=128,
    ),
)

PANEL: tuple[Metric, ...] = (*FULL_REFERENCE, *NO_REFERENCE, *DIVERSITY)

SAME_POINT_METRIC: Metric = Formula(
    name="replicate_error",
    label="difference between repeats",
    summary="Largest pixel difference to the first image of the same point.",
    direction="lower",
    range=(0.0, 255.0),
    reference="image",
    cost=8.0,
    source="maximum of absolute differences",
    function=tone.replicate_error,
    unit="codes",
    working_size=16_384,
)  # measured only where points are repeated, against the first repeat and at full size

PIXEL_HASH_METRIC: Metric = Formula(
    name="pixel_hash",
    label="pixel hash",
    summary="A number that two images share only if all their pixels are equal.",
    direction="neutral",
    range=(0.0, float(2**48)),
    reference="none",
    cost=4.0,
    source="BLAKE2b of the decoded pixels, 48 bits",
    function=tone.pixel_hash,
    working_size=16_384,
)  # not shown: it says which levels give the same image
