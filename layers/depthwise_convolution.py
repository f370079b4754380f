"""DepthwiseConvolution: a convolution whose every channel has filters of its own: a Convolution with `group` = channels.

Fields, shapes, parameters (num_output, 1, *kernel), bias and kernels are Convolution's. `group` may be left out: it is
num_output then, which must be the bottom's channels; if it is given it must be their number, and num_output a multiple. Source:
the DepthwiseConvolution layer of Caffe's forks for MobileNet, which differs from Convolution only in speed.
"""

from layers.core import catalogue


class DepthwiseConvolution(catalogue.find("Convolution")):
    """Filters for single channels; see the file's head."""

    def check(self):
        """Put in the group that is left out."""
        param = self.param.convolution_param
        if not param.HasField("group"):
            param.group = max(param.num_output, 1)
        super().check()

    def sizes(self, shape):
        """As Convolution; refuse channels that are not as many as groups."""
        found = super().sizes(shape)
        axis, channels, group = found[0], found[1], self.param.convolution_param.group
        if channels != group:
            self.fail(f"the bottom {list(shape)} has {channels} channels on axis {axis} and there are {group} groups; a "
                      "DepthwiseConvolution has one for each channel: set group (or num_output, if group is left out) to "
                      f"{channels}")
        return found

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`): Convolution's, with the group that is left out."""
        export.param = type(param).FromString(param.SerializeToString())
        export.param.convolution_param.group = export.bottoms[0][1]
        return catalogue.find("Convolution").onnx(export, export.param, *sources)
