"""The text of a layer with a sliding window, for the tests of Convolution and Deconvolution."""


def window_text(type_name, num_output, kernel, stride, pad, dilation, group=1, bias=True, more=""):
    """Return the inside of ``layer { ... }``; kernel, stride, pad and dilation have a value for each spatial axis."""
    repeated = "".join(f" {name}: {value}" for name, values in
                       (("kernel_size", kernel), ("stride", stride), ("pad", pad), ("dilation", dilation))
                       for value in values)
    return (f"type: '{type_name}' convolution_param {{ num_output: {num_output} group: {group} "
            f"bias_term: {str(bias).lower()}{repeated} {more} }}")
