"""Data: batches of labelled pictures from a database of Caffe's, LMDB or LevelDB.

    layer { name: "data" type: "Data" top: "data" top: "label"
            transform_param { mirror: true crop_size: 227 mean_file: "mean.binaryproto" }
            data_param { source: "train_lmdb" batch_size: 256 backend: LMDB } }

Tops: pictures (batch_size, channels, height, width), transformed by `data.transformer`, and labels (batch_size). Records
come in the order of their keys, after the last one the first again. They may be raw or encoded pictures (`data.datum`);
all of a batch must have one size, another batch may have another. `rand_skip` steps over a random number of records at the
beginning, less than it says. `prefetch` batches (4; 0 for none) are read ahead in a thread. `backend` is LEVELDB unless the
prototxt says LMDB, as in Caffe.

A record that is damaged, or of another size, is an `Error` that names key and database; none is left out. `source` is looked
for as given, beside the prototxt and from the project's root. Source: Caffe's DataLayer.
"""

from data import database, datum
from data.transformer import Transformer
from layers.core.batches import Batches, Source
from netspec import caffe_pb2, files
from netspec.errors import Error


class Data(Batches):
    """Read a database."""

    def check(self):
        """Refuse what is missing."""
        param = self.param.data_param
        if not param.source:
            self.fail("data_param has no 'source': the folder of an LMDB or LevelDB database")
        if param.batch_size < 1:
            self.fail("data_param has no 'batch_size', or 0; give the number of pictures in a batch")

    def open(self):
        """Return the database as a source."""
        param, transform = self.param.data_param, caffe_pb2.TransformationParameter()
        transform.CopyFrom(self.param.transform_param)
        if param.force_encoded_color:
            transform.force_color = True
        found = database.open_database(files.find(param.source, self.prototxt, "database"),
                                       caffe_pb2.DataParameter.DB.Name(param.backend).lower())
        return DatabaseSource(found, Transformer(transform, self.is_training, self.prototxt, self.dtype), param.batch_size,
                              param.rand_skip)


class DatabaseSource(Source):
    """Records of a database, in order, over and over."""

    def __init__(self, found, transformer, batch, rand_skip):
        self.database, self.transformer, self.batch, self.rand_skip = found, transformer, batch, rand_skip

    def begin(self, rng):
        """Return the state before the first record, or behind those that rand_skip steps over."""
        after = None
        for _, (key, _) in zip(range(rng(self.rand_skip) if self.rand_skip else 0), self._records(None)):
            after = key.decode("latin-1")
        return {"after": after}

    def first_shape(self):
        """Return the shape of the first record's picture, transformed."""
        key, value = next(self._records(None))
        where = self._where(key)
        return self.transformer.shape(datum.shape(datum.parse(value, where), where, self.transformer.color), where)

    def check(self, state):
        """Refuse a key that the database does not have."""
        if state["after"] is not None:
            next(self._records(state["after"].encode("latin-1")))

    def items(self, state, rng):
        """Yield the records from `state` on."""
        after = state["after"]
        for key, value in self._records(after if after is None else after.encode("latin-1")):
            where = self._where(key)
            record = datum.parse(value, where)
            values = datum.array(record, where, self.transformer.color)

            def fill(out, values=values, where=where):
                self.transformer(values, out, rng, where)

            yield where, self.transformer.shape(values.shape, where), record.label, fill, {"after": key.decode("latin-1")}

    def _records(self, after):
        """Yield (key, value) from behind the key `after` on, round and round."""
        while True:
            empty = after is None
            for record in self.database.read(after):
                empty = False
                yield record
            if empty:
                raise Error(f"{self.database.title}: holds no record")
            after = None

    def _where(self, key):
        return f"key '{key.decode('utf-8', 'replace')}' of {self.database.title}"
