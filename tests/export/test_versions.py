"""Versions of a SavedModel: whole, each once, whatever fails."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import keras
import pytest
from exports import SAMPLES, WARMUP, versions, with_list_input
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.export import version_folder


def test_no_half_version_is_ever_seen(model, tmp_path):
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            seen.extend(versions(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for version in range(1, 5):
            klp.export.saved_model(model, tmp_path / str(version), warmup=SAMPLES)
    finally:
        done.set()
        watcher.join()
    complete = versions(tmp_path)
    assert len(complete) == 4 and seen
    assert all(files == complete[0] for files in seen)
    assert {"saved_model.pb", str(WARMUP)} <= complete[0]
    assert len(list(tmp_path.iterdir())) == 4


def test_each_stage_is_written_under_another_name(model, tmp_path, monkeypatch):
    """A watching thread may miss a stage; this looks before and after each."""
    seen = []

    def looking(write):
        def look_and_write(*arguments):
            seen.append(versions(tmp_path))
            write(*arguments)
            seen.append(versions(tmp_path))

        return look_and_write

    monkeypatch.setattr(version_folder, "write_warmup", looking(version_folder.write_warmup))
    monkeypatch.setattr(version_folder.Inference, "save", looking(version_folder.Inference.save))
    klp.export.saved_model(model, tmp_path / "1", warmup=SAMPLES)
    assert seen == [[]] * 4
    assert len(versions(tmp_path)) == 1


@pytest.mark.parametrize("stage", ["save", "write_warmup"])
def test_a_failure_leaves_nothing(stage, model, tmp_path, monkeypatch):
    def half(*arguments):
        folder = next(part for part in arguments if isinstance(part, Path))
        (folder / "saved_model.pb").write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(
        version_folder.Inference if stage == "save" else version_folder, stage, half
    )
    with pytest.raises(OSError, match="disk is full"):
        klp.export.saved_model(model, tmp_path / "digits" / "1", warmup=SAMPLES)
    assert list((tmp_path / "digits").iterdir()) == []


KILLED = """
import os, sys
import keras, numpy as np
import keras_lrp_prune as klp
from keras_lrp_prune.export import version_folder
version_folder.write_warmup = lambda *arguments: os._exit(9)
entry = keras.Input((4,))
klp.export.saved_model(
    keras.Model(entry, keras.layers.Dense(2)(entry)), sys.argv[1], warmup=np.zeros((1, 4))
)
"""


def test_a_killed_export_leaves_no_version(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "1")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 9, done.stderr
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".") and (left / "saved_model.pb").exists()
    entry = keras.Input((4,))
    klp.export.saved_model(keras.Model(entry, layers.Dense(2)(entry)), tmp_path / "1")
    assert len(versions(tmp_path)) == 1


def test_a_version_is_never_replaced(model, tmp_path, monkeypatch):
    folder = klp.export.saved_model(model, tmp_path / "1")
    before = (folder / "saved_model.pb").read_bytes()
    with pytest.raises(FileExistsError, match=r"next one: .*2"):
        klp.export.saved_model(with_list_input(), folder)

    save = version_folder.Inference.save

    def meanwhile(self, folder):
        save(self, folder)
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "saved_model.pb").write_bytes(b"theirs")

    monkeypatch.setattr(version_folder.Inference, "save", meanwhile)
    with pytest.raises(FileExistsError, match="meantime"):
        klp.export.saved_model(with_list_input(), tmp_path / "2")
    assert (folder / "saved_model.pb").read_bytes() == before
    assert (tmp_path / "2" / "saved_model.pb").read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
