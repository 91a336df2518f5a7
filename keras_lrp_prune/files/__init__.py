"""Files and folders: written whole or not at all, read with suspicion, held by one run at a time.

The only room that writes for the user: all others hand it what they have.
"""

from keras_lrp_prune.files.forms import formed
from keras_lrp_prune.files.locking import FolderInUse, FolderLock
from keras_lrp_prune.files.reading import parsed_json, read_bytes, read_json
from keras_lrp_prune.files.together import members, new_members
from keras_lrp_prune.files.writing import check_writable, make_folder, new_file, new_folder

__all__ = [
    "FolderInUse",
    "FolderLock",
    "check_writable",
    "formed",
    "make_folder",
    "members",
    "new_file",
    "new_folder",
    "new_members",
    "parsed_json",
    "read_bytes",
    "read_json",
]
