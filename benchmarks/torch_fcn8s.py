"""FCN-8s in PyTorch, for comparison: ``python -m benchmarks.torch_fcn8s forward 500 500 5 [channels_last]``.

Prints the median seconds and the process' peak GiB. What it computes is what `models/fcn8s` says: pad 100, five poolings
rounded up, two skips, dense transposed convolutions with bilinear kernels on the diagonal, cross entropy as a sum.
"""

import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CLASSES = 21


class FCN8s(nn.Module):
    """VGG16's convolutions, scores of pool3, pool4 and fc7, fused at strides 16 and 8."""

    def __init__(self):
        super().__init__()
        self.stages, channels = nn.ModuleList(), 3
        for widths in WIDTHS:
            stage = nn.ModuleList()
            for width in widths:
                stage.append(nn.Conv2d(channels, width, 3, padding=100 if channels == 3 else 1))
                channels = width
            self.stages.append(stage)
        self.fc6, self.fc7 = nn.Conv2d(512, 4096, 7), nn.Conv2d(4096, 4096, 1)
        self.scores = nn.ModuleList(nn.Conv2d(width, CLASSES, 1) for width in (4096, 512, 256))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(CLASSES, CLASSES, size, size // 2, bias=False) for size in (4, 4, 16))
        for up in self.ups:
            up.requires_grad_(False)

    def forward(self, image, train=False):
        """Return the scores (N, 21, H, W)."""
        height, width = image.shape[2:]
        x, pools = image, []
        for stage in self.stages:
            for convolution in stage:
                x = functional.relu(convolution(x), inplace=True)
            x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
            pools.append(x)
        for layer in (self.fc6, self.fc7):
            x = functional.dropout(functional.relu(layer(x), inplace=True), 0.5, train)
        x = self.ups[0](self.scores[0](x))
        for score, up, pool, offset in ((self.scores[1], self.ups[1], pools[3], 5), (self.scores[2], self.ups[2], pools[2], 9)):
            skip = score(pool)[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
            x = up(x + skip)
        return x[:, :, 31 : 31 + height, 31 : 31 + width]


def main(what, height, width, repeat, layout="contiguous"):
    """Measure one row of the table of `benchmarks.fcn8s`."""
    torch.manual_seed(1)
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
    net = FCN8s().to(memory_format=layout)
    image = (torch.randn(1, 3, height, width) * 50).to(memory_format=layout)
    label = torch.randint(0, CLASSES, (1, height, width))
    learned = [p for p in net.parameters() if p.requires_grad]
    solver = torch.optim.SGD(learned, lr=1e-14, momentum=0.99, weight_decay=5e-4)

    def step():
        if what == "forward":
            with torch.inference_mode():
                net(image)
            return
        if what == "training step":
            solver.zero_grad(set_to_none=False)
        functional.cross_entropy(net(image, train=True), label, reduction="sum").backward()
        if what == "training step":
            solver.step()

    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
