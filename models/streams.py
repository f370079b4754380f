"""From features to scores at the size of the image: score each stream, fuse from coarse to fine, upsample, crop (4.3)."""

from models import parts

# Names of VGG's skips: blob that is scored, name of its layers, from the coarsest on; each halves the stride.
VGG_SKIPS = (("pool4", "pool4"), ("pool3", "pool3"))
COARSEST = 32


def fused(n, bottom, classes, design, skips=VGG_SKIPS, first="score_fr", head="", scales=None, last_kernel=None,
          between=4, grouped=False, padded=True):
    """Score `bottom` at stride 32, fuse `skips` down to ``design.finest``, upsample to the image and crop.

    Returns the crop, which the caller names. Layers have the same names whatever the finest stream is, but for the
    last upsampling, whose kernel differs (``upscore``, ``upscore16``, ``upscore8``): weights carry over by name.

    Parameters
    ----------
    design : finest, fusion, interpolation, biases.
    skips : pairs (blob, name of its layers).
    head : appended to the names.
    scales : {name: constant} that multiply the streams of skips (training all at once).
    last_kernel, between : kernel sizes of the last upsampling (twice its stride when None) and of those by 2 between
        streams. Odd ones are for trunks whose poolings are 3x3.
    grouped : one kernel a class, with the bilinear filler.
    padded : whether the trunk pads so widely that streams reach beyond the upsampled scores, see `parts.skip`.
    """
    scales = scales or {}
    top = parts.score(n, f"{first}{head}", bottom, classes, design.biases)
    name, stride = f"upscore2{head}", COARSEST
    for blob, skip in skips:
        if stride == design.finest:
            break
        top = parts.upscore(n, name, top, classes, between, 2, grouped, learned=design.interpolation == "learned")
        stream = n[blob]
        if skip in scales:
            stream = parts.fixed_scale(n, f"scale_{skip}", stream, scales[skip])
        top = parts.skip(n, skip, stream, top, classes, design, head, padded)
        name = f"upscore_{skip}{head}"
        stride //= 2
    return upsampled(n, top, classes, stride, design, head, last_kernel, grouped)


def scored_once(n, bottom, classes, design):
    """Score the trunk's end `bottom` and return the name of the scores: ``score_fr``, or ``score_<pool>``."""
    name = f"score_{design.only or 'fr'}"
    parts.score(n, name, bottom, classes, design.biases)
    return name


def single(n, pool, classes, design, grouped=False):
    """Score the blob `pool` alone, upsample it by ``design.stride`` and crop: Table 3's FCN-pool5, -pool4, -pool3."""
    top = n[scored_once(n, n[pool], classes, design)]
    return upsampled(n, top, classes, design.stride, design, grouped=grouped)


def upsampled(n, top, classes, stride, design, head="", kernel=None, grouped=False):
    """Upsample by `stride` with a fixed kernel and crop to the image."""
    if design.upsampling == "corners":
        kernel = 2 * stride - 1
    name = f"upscore{'' if stride == COARSEST else stride}{head}"
    return parts.aligned(parts.upscore(n, name, top, classes, kernel or 2 * stride, stride, grouped), n.data, design)
