"""Files and folders: written whole or not at all, checked when they are read, locked by one run.

All other rooms write the user's files through this one.
"""

from keras_lrp_prune.files.atomic_writes import check_writable, make_folder, new_file, new_folder
from keras_lrp_prune.files.file_sets import members, new_members
from keras_lrp_prune.files.forms import formed
from keras_lrp_prune.files.locks import FolderInUse, FolderLock
from keras_lrp_prune.files.untrusted_files import parsed_json, read_bytes, read_json

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
