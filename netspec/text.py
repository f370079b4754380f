"""prototxt <-> message: protobuf's text format, with errors that name the file, line, column and the nearest name.

protobuf parses (so what it accepts is accepted). Only when it refuses a text is the text read a second time, by
`_Diagnosis`, which walks it along the schema to find out what is wrong and where.
"""

import collections
import os
import re

from google.protobuf import text_encoding, text_format
from google.protobuf.descriptor import FieldDescriptor

from netspec import caffe_pb2, files, upgrade
from netspec.errors import Error, nearest

INTEGERS = {  # protobuf type -> name, smallest and largest value
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
}
FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
BOOLS = ("true", "t", "True", "1", "false", "f", "False", "0")
CLOSER = {"{": "}", "<": ">"}

TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<name>[A-Za-z_][0-9A-Za-z_+-]*)
      | (?P<number>(?:[0-9+-]|\.[0-9])[0-9A-Za-z_.+-]*)
      | (?P<string>"(?:[^"\n\\]|\\.)*"|'(?:[^'\n\\]|\\.)*')
      | (?P<symbol>.)""",
    re.VERBOSE,
)
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte that was not UTF-8, see `decode`
LAYER_FIELDS = {"type", "bottom", "top"}  # a message with one of them is a layer, however its own name is written
Token = collections.namedtuple("Token", "kind text line column start", defaults=(0,))


def parse(text, message, source="<string>", dropped=None):
    """Fill `message` with what a prototxt says and return it.

    Parameters
    ----------
    text : str
        protobuf's text format. Accepted as in Caffe: comments, fields followed by ``,`` or ``;``, ``field { }``,
        ``field: { }`` and ``field < >``, either quotes, ``[1, 2]`` for repeated fields, octal and hexadecimal numbers,
        ``inf`` and ``nan``.
    message : protobuf message
        Is cleared first; stays as it was when the text is refused.
    source : str
        The file's name in errors.
    dropped : list, optional
        Unknown fields are dropped and not refused, and a sentence for each is appended here. What looks like a layer is refused
        all the same, and so are wrong values of known fields.

    Raises
    ------
    Error
        ``source:line:column: ...`` for an unknown field or enum value (with the nearest known one), a value of the
        wrong type or range, a non-repeated field given twice (both lines), a missing required field, an unclosed
        brace or string. Whatever the text holds, no other exception.
    """
    result = type(message)()
    if LONE_SURROGATE.search(text):
        # protobuf answers them with a SystemError. Outside of comments the walk refuses them.
        _Diagnosis(text, source, None if dropped is None else []).whole(result.DESCRIPTOR)
        text = LONE_SURROGATE.sub("?", text)
    if dropped is not None:
        text = _Diagnosis(text, source, dropped).without_unknown(result.DESCRIPTOR)
    refusal = None
    try:
        text_format.Parse(text, result)
    except (text_format.ParseError, ValueError, OverflowError, RecursionError, TypeError) as error:
        # protobuf lets some of Python's own errors through, as for a number of 5000 digits.
        refusal = error
    if refusal is not None or not result.IsInitialized():
        _Diagnosis(text, source).whole(result.DESCRIPTOR)
        raise Error(_protobuf_says(source, refusal, result))
    message.CopyFrom(result)
    return message


def read(path, message_class, dropped=None):
    """Return the prototxt `path` as a `message_class`; an empty or binary file is an `Error` that says so.

    `dropped` is for unknown fields, see `parse`.
    """
    path = os.fspath(path)
    text = decode(files.read_bytes(path), path)
    if next(_tokens(text), None) is None:
        raise Error(f"'{path}' is empty: it holds no field of {message_class.DESCRIPTOR.name}")
    return parse(text, message_class(), path, dropped)


def read_net(path, dropped=None):
    """Return the net of the prototxt `path`, upgraded to today's fields (see `upgrade.upgrade_net`).

    `dropped` is for unknown fields, see `parse`.
    """
    net = read(path, caffe_pb2.NetParameter, dropped)
    if upgrade.needs_upgrade(net):
        upgrade.upgrade_net(net, source=os.fspath(path), lines=layer_lines(path))
    return net


def read_solver(path, dropped=None):
    """Return the solver of the prototxt `path`, upgraded to today's fields (see `upgrade.upgrade_solver`).

    `dropped` is for unknown fields, see `parse`.
    """
    return upgrade.upgrade_solver(read(path, caffe_pb2.SolverParameter, dropped), os.fspath(path))


def dump(message):
    """Return `message` as prototxt: fields by number, as protobuf prints them, floats by their shortest digits.

    The shortest digits are those of the 32-bit value: 0.0005, not 0.0005000000237. Text outside ASCII stays readable.
    """
    return text_format.MessageToString(message, as_utf8=True)


def decode(data, path):
    """Return the bytes of a prototxt as text; a binary file is an `Error` that names the first odd byte.

    Caffe takes any bytes in comments, and old files have them in Latin-1 or GBK: bytes that are not UTF-8 are kept as
    lone surrogates, which are refused only inside a string value.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Error(f"'{path}' is UTF-16 text; save it as UTF-8")
    odd = re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", data)
    if odd:
        line = data.count(b"\n", 0, odd.start()) + 1
        raise Error(f"'{path}' is not a prototxt: byte {odd.start()} (line {line}) is 0x{odd.group()[0]:02x}; "
                    "is a binary file (.caffemodel, .solverstate, HDF5) given where a text is expected?")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def layer_lines(path_or_text):
    """Return the line number of each top-level ``layer`` or ``layers`` message, in the order of the file.

    `path_or_text` is a path, or the text itself (what holds a line break or an opening brace). A broken text raises
    nothing: the layers up to the break are listed.
    """
    return [line for line, _ in _layers(_text_of(path_or_text))]


def layer_places(path):
    """Return layer name -> ``"train.prototxt:41"``, for errors; a name used twice has ``"train.prototxt:41, :77"``."""
    places = {}
    for line, name in _layers(_text_of(path)):
        places[name] = f"{places[name]}, :{line}" if name in places else f"{os.fspath(path)}:{line}"
    return places


def is_text(data):
    """Return whether the bytes of a file are a prototxt rather than a binary message."""
    return _parses(decode, data, "")


def top_level_fields(text):
    """Return the names of the fields outside of all braces, in order."""
    names, depth, before = [], 0, ""
    for token in _tokens(text):
        if token.kind == "symbol":
            depth += (token.text in "{<[") - (token.text in "}>]")
        elif token.kind == "name" and depth == 0 and before != ":":
            names.append(token.text)
        before = token.text
    return names


def _text_of(path_or_text):
    if isinstance(path_or_text, str) and re.search(r"[\n{<]", path_or_text):
        return path_or_text
    return decode(files.read_bytes(path_or_text), path_or_text)


def _layers(text):
    """Return (line, name) of each top-level layer; a V0 layer's name is taken from its inner ``layer`` message."""
    found, open_fields = [], []
    field = before = Token("", "", 0, 0)
    for token in _tokens(text):
        if token.text in CLOSER:
            if not open_fields and field.text in ("layer", "layers"):
                # In `layer: [{...}, {...}]` only the first brace follows the field's name.
                found.append([field.line if before is field or before.text == ":" else token.line, ""])
            open_fields.append(field)
        elif token.text in CLOSER.values() and open_fields:
            field = open_fields.pop()
        elif token.kind == "name" and before.text != ":":
            field = token
        elif token.kind == "string" and field.text == "name" and found:
            path = [f.text for f in open_fields]
            if path in (["layer"], ["layers"], ["layers", "layer"]) and not found[-1][1]:
                found[-1][1] = _unquote(token.text)
        before = token
    return [(line, name) for line, name in found]


def _tokens(text):
    """Yield the tokens of a prototxt with their lines and columns (from 1), without spaces and comments."""
    line, line_start = 1, 0
    for match in TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup != "space":
            yield Token(match.lastgroup, token, line, match.start() - line_start + 1, match.start())
        elif "\n" in token:
            line += token.count("\n")
            line_start = match.start() + token.rindex("\n") + 1


def _unquote(token):
    """Return the value of a quoted string; what has no proper escapes is returned as written."""
    try:
        return text_encoding.CUnescape(token[1:-1]).decode("utf-8", "replace")
    except ValueError:
        return token[1:-1]


def _protobuf_says(source, refusal, result):
    """Return protobuf's own complaint in our form, for what `_Diagnosis` finds nothing wrong with."""
    if refusal is None:
        return f"{source}: missing required fields: {', '.join(result.FindInitializationErrors())}"
    place, _, complaint = str(refusal).rpartition(" : ")
    line = getattr(refusal, "GetLine", lambda: None)()
    if place and line:
        return f"{source}:{line}:{refusal.GetColumn()}: {complaint}"
    return f"{source}: {str(refusal) or type(refusal).__name__}"


def _is_repeated(field):
    # protobuf 4 and 5 have only `label`, protobuf 7 only `is_repeated`.
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED


def _is_required(field):
    return field.is_required if hasattr(field, "is_required") else field.label == FieldDescriptor.LABEL_REQUIRED


def _wants(field):
    """Return what a value of `field` must be, in words."""
    if field.message_type:
        return "a message in { }"
    if field.enum_type:
        names = [value.name for value in field.enum_type.values]
        return f"one of {', '.join(names)}" if len(names) <= 8 else f"a {field.enum_type.name}, such as {names[1]}"
    if field.type in INTEGERS:
        name, smallest, largest = INTEGERS[field.type]
        return f"a whole number from {smallest} to {largest} ({name})"
    if field.type in FLOATS:
        return "a number"
    return "true or false" if field.type == FieldDescriptor.TYPE_BOOL else "a quoted string"


def _parses(convert, *args):
    try:
        convert(*args)
    except ValueError:
        return False
    return True


class _Diagnosis:
    """Walks a text along the schema and raises `Error` at the first thing that does not fit.

    The messages of Caffe's schema do not contain themselves, so the depth of the walk is bounded by the schema:
    a text of a million opening braces fails at the first that opens no known field.
    """

    END = Token("end", "", 0, 0)

    def __init__(self, text, source, dropped=None):
        self.text, self.source, self.dropped = text, source, dropped
        self.unknown = []  # (start, stop) of the unknown fields in the text, where they are dropped
        self.tokens = _tokens(text)
        self.line_count = text.count("\n") + 1
        self.now = next(self.tokens, self.END)
        self.opened = []  # (field name, its token, descriptor of the message that holds it), outermost first

    def whole(self, descriptor):
        """Walk the whole text as one message of type `descriptor`."""
        seen = {}
        while self.now.kind != "end":
            self.field(descriptor, seen)
        self.lacks(descriptor, seen, None)

    def without_unknown(self, descriptor):
        """Walk the whole text and return it with spaces in the place of unknown fields, so that all else keeps its place."""
        self.whole(descriptor)
        parts, at = [], 0
        for start, stop in self.unknown:
            parts += [self.text[at:start], re.sub(r"[^\n]", " ", self.text[start:stop])]
            at = stop
        return "".join([*parts, self.text[at:]])

    def fail(self, token, text):
        """Raise the error at the place of `token`."""
        if token.kind == "end":
            raise Error(f"{self.source}:{self.line_count}: {text}")
        raise Error(f"{self.source}:{token.line}:{token.column}: {text}")

    def step(self):
        """Return the token at hand and go to the next."""
        token, self.now = self.now, next(self.tokens, self.END)
        return token

    def take(self, *texts):
        """Return whether the token at hand is one of `texts`, and if so go past it."""
        found = self.now.kind == "symbol" and self.now.text in texts
        if found:
            self.step()
        return found

    def found(self):
        """Return the token at hand in words."""
        if self.now.kind == "end":
            return "the end of the file"
        text = self.now.text if len(self.now.text) <= 40 else self.now.text[:37] + "..."
        return _printable(text) if self.now.kind == "string" else f"'{_printable(text)}'"

    def field(self, descriptor, seen):
        """Walk one ``name: value`` of a message."""
        name = self.now
        if name.kind != "name":
            self.not_a_name(descriptor)
        field = descriptor.fields_by_name.get(name.text)
        if field is None:
            if self.dropped is not None:
                self.drop(descriptor)
                return
            self.fail(name, f"unknown field '{name.text}' in {descriptor.name}{self.hint(name.text, descriptor)}")
        self.step()
        if name.text in seen and not _is_repeated(field):
            self.fail(name, f"'{name.text}' of {descriptor.name} is given twice (lines {seen[name.text].line} and "
                            f"{name.line}) and is not a repeated field; keep one")
        seen[name.text] = name
        colon = self.take(":")
        if not colon and not field.message_type:
            self.fail(self.now, f"expected ':' after '{name.text}', found {self.found()}")
        if _is_repeated(field) and self.take("["):
            self.list_of(field, name, descriptor)
        else:
            self.value(field, name, descriptor)
        self.take(",", ";")

    def drop(self, descriptor):
        """Step over an unknown field and its value, and write down where it stood."""
        name, inner = self.step(), set()
        hint = self.hint(name.text, descriptor)
        colon = self.take(":")
        value = self.now
        if value.kind == "symbol" and value.text in (*CLOSER, "["):
            inner = self.over_brackets(name)
        elif colon and value.kind in ("name", "number", "string"):
            while self.step().kind == "string" and self.now.kind == "string":  # "one" "two" is one value
                pass
        else:
            self.fail(value, f"expected a value of the unknown field '{name.text}', found {self.found()}")
        if descriptor.name == "NetParameter" and inner & LAYER_FIELDS:
            self.fail(name, f"unknown field '{name.text}' in {descriptor.name} looks like a layer, and layers are never dropped"
                            f"{hint}")
        self.take(",", ";")
        self.unknown.append((name.start, len(self.text) if self.now.kind == "end" else self.now.start))
        self.dropped.append(f"{self.source}:{name.line}:{name.column}: dropped unknown field '{name.text}' in {descriptor.name}"
                            f"{hint}")

    def over_brackets(self, name):
        """Step over a message or a list; return the names of the fields that stand directly in it."""
        open_ones, inner = [], set()
        while True:
            token = self.step()
            if token.kind == "end":
                self.fail(token, f"end of the file inside '{name.text}' opened on line {name.line}: a closing bracket is missing")
            if token.kind == "symbol" and token.text in (*CLOSER, "["):
                open_ones.append({**CLOSER, "[": "]"}[token.text])
            elif token.kind == "symbol" and token.text in (*CLOSER.values(), "]"):
                if token.text != open_ones.pop():
                    self.fail(token, f"'{token.text}' does not close what is open in '{name.text}' of line {name.line}")
                if not open_ones:
                    return inner
            elif token.kind == "name" and len(open_ones) == 1:
                inner.add(token.text)

    def list_of(self, field, name, descriptor):
        """Walk ``value, value]``."""
        if self.take("]"):
            return
        while True:
            self.value(field, name, descriptor)
            if self.take("]"):
                return
            if not self.take(","):
                self.fail(self.now, f"expected ',' or ']' in the list of '{name.text}', found {self.found()}")

    def value(self, field, name, descriptor):
        """Walk one value of `field`."""
        if field.message_type:
            return self.message(field, name, descriptor)
        token = self.now
        if not self.fits(field, token):
            self.fail(token, f"'{field.name}' of {descriptor.name} wants {_wants(field)}, "
                             f"found {self.found()}{self.cure(field, token, descriptor)}")
        self.step()
        if token.kind == "string":
            while self.now.kind == "string":  # "one" "two" is "onetwo"
                if not self.fits(field, self.now):
                    self.fail(self.now, f"'{field.name}' of {descriptor.name}: {self.found()} is not a proper string")
                self.step()
        return None

    def message(self, field, name, descriptor):
        """Walk ``{ ... }``."""
        opener = self.now
        if not self.take(*CLOSER):
            self.fail(opener, f"'{field.name}' of {descriptor.name} wants {_wants(field)}, found {self.found()}")
        closer, seen = CLOSER[opener.text], {}
        self.opened.append((field.name, name, descriptor))
        while not self.take(closer):
            if self.now.kind == "end":
                self.fail(self.now, f"end of the file inside '{field.name}' opened on line {name.line}: "
                                    f"a closing '{closer}' is missing")
            if self.now.text in CLOSER.values():
                self.fail(self.now, f"'{field.name}' was opened with '{opener.text}' on line {opener.line}: "
                                    f"expected '{closer}', found {self.found()}")
            self.field(field.message_type, seen)
        self.opened.pop()
        self.lacks(field.message_type, seen, name)

    def lacks(self, descriptor, seen, name):
        """Raise when a required field is missing in a message that ends here."""
        missing = [f.name for f in descriptor.fields if _is_required(f) and f.name not in seen]
        if missing:
            self.fail(name or self.END, f"{descriptor.name} lacks the required field '{missing[0]}'")

    def fits(self, field, token):
        """Return whether `token` is a value of the scalar or enum `field`, as protobuf reads it."""
        text, kind = token.text, token.kind
        if field.enum_type:
            if kind == "number":
                return _parses(int, text, 0) and int(text, 0) in field.enum_type.values_by_number
            return kind == "name" and text in field.enum_type.values_by_name
        if field.type in INTEGERS:
            _, smallest, largest = INTEGERS[field.type]
            return kind == "number" and _parses(text_format.ParseInteger, text, True, True) and (
                smallest <= text_format.ParseInteger(text, True, True) <= largest)
        if field.type in FLOATS:
            return kind in ("name", "number") and _parses(text_format.ParseFloat, text)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return text in BOOLS
        if kind != "string" or not _parses(text_encoding.CUnescape, text[1:-1]):
            return False
        if LONE_SURROGATE.search(text):
            return False
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return is_bytes or _parses(lambda: text_encoding.CUnescape(text[1:-1]).decode("utf-8"))

    def not_a_name(self, descriptor):
        """Raise for a token that stands where a field's name should."""
        token = self.now
        if token.text in CLOSER.values():
            self.fail(token, f"'{token.text}' closes nothing: no message is open here")
        if token.text == "[":
            self.fail(token, f"extensions ('[...]') are not part of Caffe's format; expected a field of "
                             f"{descriptor.name}")
        if token.text in ('"', "'"):
            self.fail(token, "a string is not closed on its line")
        self.fail(token, f"expected the name of a field of {descriptor.name}, found {self.found()}")

    def hint(self, name, descriptor):
        """Return what may have been meant by the unknown field `name` in a message of type `descriptor`."""
        for opened, token, holder in reversed(self.opened):
            if name in holder.fields_by_name:
                return (f"; it is a field of {holder.name}: is the '}}' of the '{opened}' opened on line "
                        f"{token.line} missing?")
        inner = [f.name for f in descriptor.fields if f.message_type and name in f.message_type.fields_by_name]
        if inner:
            more = ", ..." if len(inner) > 4 else ""
            return f"; it is a field of {', '.join(inner[:4])}{more}"
        return nearest(name, descriptor.fields_by_name)

    def cure(self, field, token, descriptor):
        """Return what to write instead of the value `token`."""
        if field.enum_type:
            names = [one.name for one in field.enum_type.values]
            value = _unquote(token.text) if token.kind == "string" else token.text
            if descriptor.name == "V1LayerParameter" and field.name == "type":
                for number, name in upgrade.V1_TYPES.items():
                    if name == value:
                        return (f"; 'layers' is the old form: write {field.enum_type.values_by_number[number].name}, "
                                "or 'layer' instead of 'layers'")
            return f"; write {value} without quotes" if value in names else nearest(value, names)
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            if token.text in ('"', "'"):
                return "; a string is not closed on its line"
            if token.kind == "string":
                return "; it has a wrong escape (after a backslash) or is not UTF-8"
            if descriptor.name == "LayerParameter" and field.name == "type" and token.kind == "name":
                old = caffe_pb2.V1LayerParameter.LayerType.DESCRIPTOR.values_by_name.get(token.text)
                if old is not None:
                    return f'; in a \'layer\' that is type: "{upgrade.V1_TYPES[old.number]}"'
            return f'; write "{token.text}"' if token.kind in ("name", "number") else ""
        return ""


def _printable(text):
    """Return `text` with what a terminal cannot show written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
