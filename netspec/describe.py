"""What a layer says in few words: its window, its settings, its rates. For drawings and tables."""

import math

# Fields that the window already says, that are drawn elsewhere, or that only say how it is computed.
WINDOW = {"num_output", "kernel_size", "kernel_h", "kernel_w", "stride", "stride_h", "stride_w", "pad", "pad_h", "pad_w",
          "dilation", "group", "engine", "weight_filler", "bias_filler", "axis", "force_nd_im2col"}
DEFAULTS = {"stride": "1", "pad": "0", "dilation": "1"}
LONGEST = 60  # letters of the settings


def settings(layer):
    """Return what a LayerParameter sets, such as "4096 3x3 /2 pad 1 group 2", "MAX 2x2 /2", "SUM 0.5 0.5"; "" if nothing."""
    words = []
    for field, value in layer.ListFields():
        if not field.name.endswith("_param") or field.name in ("transform_param", "loss_param") or field.message_type is None:
            continue
        words += _window(value)
        for inner, one in value.ListFields():
            if inner.name not in WINDOW and inner.message_type is None:
                words.append(_word(inner, one))
    text = " ".join(filter(None, words))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _window(param):
    names = {field.name for field, _ in param.ListFields()}
    words = [str(param.num_output)] if "num_output" in names else []
    for what, form in (("kernel", "{}"), ("stride", "/{}"), ("pad", "pad {}"), ("dilation", "dilation {}")):
        size = _size(param, what, names)
        if size and size != DEFAULTS.get(what):
            words.append(form.format(size if what != "kernel" or "x" in size else f"{size}x{size}"))
    if "group" in names and param.group != 1:
        words.append(f"group {param.group}")
    return words


def _size(param, what, names):
    repeated = "kernel_size" if what == "kernel" else what
    if repeated in names:
        value = getattr(param, repeated)
        values = [value] if isinstance(value, int) else list(value)
        return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
    if f"{what}_h" in names or f"{what}_w" in names:
        height, width = getattr(param, f"{what}_h"), getattr(param, f"{what}_w")
        return str(height) if height == width and what != "kernel" else f"{height}x{width}"
    return ""


def _word(field, value):
    if field.enum_type is not None and not _repeated(field):
        return field.enum_type.values_by_number[value].name
    if _repeated(field):
        return f"{field.name} {' '.join(_number(one) for one in value)}" if len(value) <= 4 else field.name
    if isinstance(value, bool):
        return field.name if value else f"no {field.name}"
    if isinstance(value, str) and field.name not in ("module", "layer", "source"):
        return ""
    return str(value) if isinstance(value, str) else f"{field.name} {_number(value)}"


def _repeated(field):
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _number(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def rates(multipliers):
    """Return the lr_mult of a layer's parameters as text, such as "1 2" or "fixed"; "" without parameters."""
    if not multipliers:
        return ""
    return " ".join(f"{rate:g}" for rate in multipliers) if any(multipliers) else "fixed"


def count(number):
    """Return a count in few digits: 512, 2.36 M, 102 G."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            digits = max(0, 2 - int(math.log10(number / unit)))
            return f"{number / unit:.{digits}f} {letter}"
    return str(number)
