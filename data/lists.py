"""Lists of pictures with labels, one a line: ``folder/cat.jpg 3``. What ImageData and convert_imageset read."""

from netspec import files
from netspec.errors import Error


class ImageList:
    """A list file.

    A line is a path, a space and an integer label; the path may have spaces in it. A line without a label is an error that
    names it. Empty lines are left out, as are blanks at a line's end.

    Attributes
    ----------
    path : str
        The list file.
    entries : list of (path, label, number of the line)
        Paths as they are written.
    """

    def __init__(self, path):
        self.path, self.entries = path, []
        for number, line in enumerate(files.read_text(path).lstrip("\ufeff").splitlines(), 1):
            line = line.strip()
            if not line:
                continue
            name, _, label = line.rpartition(" ")
            try:
                label = int(label)
            except ValueError:
                raise Error(f"{path}:{number}: a line is a path, a space and an integer label; got '{line[:200]}'") from None
            if not name.strip():
                raise Error(f"{path}:{number}: a line is a path, a space and an integer label; here is no path: '{line}'")
            self.entries.append((name.rstrip(), label, number))
        if not self.entries:
            raise Error(f"'{path}' lists no picture")

    def __len__(self):
        return len(self.entries)

    def find(self, index, root):
        """Return (path, how errors call it) of entry `index`, below the folder `root` (put before the path as it is)."""
        name, _, number = self.entries[index]
        return files.find(root + name, self.path, f"image of {self.path}:{number}"), f"image of {self.path}:{number}"
