"""Turn caffe.proto into caffe_pb2.py: `make proto`.

protoc's own Python output refuses protobuf runtimes that are two major versions newer than itself. The file
written here holds the compiled schema and leaves the classes to the runtime's builder, so one caffe_pb2.py
works with every protobuf from 4.25 on. Needs grpcio-tools (which brings protoc); nothing else does.
"""

import pathlib
import sys
import tempfile
import textwrap

HERE = pathlib.Path(__file__).resolve().parent

TEMPLATE = '''"""Caffe's messages as protobuf classes. Made from caffe.proto by `make proto`; do not edit."""

from google.protobuf import descriptor_pool
from google.protobuf.internal import builder

DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(
{schema}
)
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "netspec.caffe_pb2", globals())
'''


def main():
    """Compile caffe.proto beside this file and write caffe_pb2.py; return protoc's exit code."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "caffe.set")
        code = protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={out}", str(HERE / "caffe.proto")])
        if code:
            return code
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    files.file[0].name = "netspec/caffe.proto"
    data = files.file[0].SerializeToString(deterministic=True)
    lines = [repr(data[i : i + 64]) for i in range(0, len(data), 64)]
    schema = textwrap.indent("\n".join(lines), "    ")
    (HERE / "caffe_pb2.py").write_text(TEMPLATE.format(schema=schema))
    return 0


if __name__ == "__main__":
    sys.exit(main())
