"""Figures that the paper derives from its own tables: do they follow?"""

from paper.experiment import Row, exact

TITLE = "The paper's own arithmetic"
PLACE = "5"
MINUTES = 0.05
NEEDS = ()


def run(context):
    """Divide."""
    return {"rows": [
        follows("Table 1's worst model reaches about 75 % of the previous best", "4.1", "its own figures: 39.8 / 52.6",
                39.8 / 52.6, 75, "{:.1f} %", 1),
        follows("Fine-tuning only the classifier gives 73 % of full fine-tuning", "4.4", "its own figures: 46.6 / 63.6",
                46.6 / 63.6, 73, "{:.1f} %", 1),
        follows("A 30 % relative improvement on PASCAL VOC 2012", "5, Table 4", "its own figures: 67.2 / 51.6", 67.2 / 51.6 - 1,
                30, "{:.1f} %", 1),
        exact("More than 10 % relative improvement on PASCAL-Context", "5, Table 7", "its own figures: 39.1 / 34.4", "> 10 %",
              f"{100 * (39.1 / 34.4 - 1):.1f} %", 39.1 / 34.4 > 1.1),
        exact("The fully convolutional AlexNet is more than 5 times as fast as patches in batches", "3.1",
              "its own figures: 100 x 1.2 ms / 22 ms", "> 5", f"{120 / 22:.1f}", 120 / 22 > 5),
        exact("and nearly 25 times as fast as patches one by one", "3.1", "its own figures: 100 x 5.4 ms / 22 ms", "nearly 25",
              f"{540 / 22:.1f}", 24 < 540 / 22 < 25),
        exact("Backward gives a similar speedup", "3.1", "its own figures: 100 x 2.4 ms / 37 ms", "similar", f"{240 / 37:.1f}",
              4 < 240 / 37 < 8),
        exact("Sampling the loss is faster than patches for p > 0.2", "4.4",
              "its own figures: the share p at which (100 p) x 1.2 ms "
              "is 22 ms, of 3.1's forward; of forward and backward (59 ms and 360 ms)", "0.2",
              f"{22 / 120:.2f}; {(22 + 37) / (120 + 240):.2f}", round(22 / 120, 1) == 0.2),
        Row("Inference is 286 times as fast as SDS overall", "5, Table 4", "its own figures: 50 s / 100 ms", "286",
            f"{50 / 0.1:.0f}",
            "not reproduced", f"286 is 50 s over {1000 * 50 / 286:.0f} ms; with the 100 ms of this "
            "table it is 500. The 114 times without proposals are 20 s over the same 175 ms."),
    ]}


def follows(claim, place, ran, value, paper, form, tolerance):
    """Return the Row of a percentage that rounds to the paper's."""
    return exact(claim, place, ran, form.format(paper).replace(".0", ""), form.format(100 * value),
                 abs(100 * value - paper) <= tolerance)
