"""HHA (section 5, Table 5): the encoding of a real depth image beside that of the authors' MATLAB program, channel by channel."""

import os

from data import hha, pictures
from paper.experiment import Row

TITLE = "HHA from depth"
PLACE = "5, Table 5"
MINUTES = 0.2
NEEDS = ("real",)
DEPENDS = ("data/hha.py",)
CHANNELS = ("disparity", "height", "angle")
UNIT = 1e-4  # metres a step of the depth image


def run(context):
    """Encode and compare."""
    folder = os.path.join(context.real, "hha")
    ours = hha.encode(hha.read_depth(os.path.join(folder, "0.png"), UNIT), hha.CAMERAS["nyud"]).hha
    theirs = pictures.read_image(os.path.join(folder, "matlab_hha.png"))
    off = abs(ours.astype(int) - theirs.astype(int))
    equal = {name: float((off[..., number] == 0).mean()) for number, name in enumerate(CHANNELS)}
    said = "; ".join(f"{name}: {100 * equal[name]:.2f} % of the pixels equal, at most {off[..., number].max()} off"
                     for number, name in enumerate(CHANNELS))
    return {"rows": [Row(
        "HHA: horizontal disparity, height above ground, angle of the normal with gravity", "5, Table 5",
        "`data.hha` on one depth image of a Kinect, beside the authors' MATLAB program", "three channels", said,
        "reproduced" if min(equal.values()) > 0.999 and off.max() <= 1 else "not reproduced")], "numbers": equal}
