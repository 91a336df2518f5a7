"""What users' code hangs on: nothing of it goes unseen, and no module hides a function."""

import pkgutil

from public_api import SNAPSHOT, described

import keras_lrp_prune as klp


def test_names_arguments_and_attributes_are_those_of_the_snapshot():
    """A new name: `python tests/support/public_api.py`, and a line in the changelog."""
    assert described() == SNAPSHOT.read_text(encoding="utf-8").splitlines()


def test_no_module_is_called_as_a_public_function_is():
    """Once such a module is imported, `klp.compare`, say, would be the module."""
    found = pkgutil.walk_packages(klp.__path__, f"{klp.__name__}.")
    modules = {name.rpartition(".")[2] for *_, name, _ in found}
    functions = {name for name in klp.__all__ if callable(getattr(klp, name))}
    assert len(functions) > 20 and len(modules) > 100
    assert not modules & functions


def test_channel_rules_are_imported_by_either_name():
    from keras_lrp_prune.graph import channel_rules, rules

    assert all(
        getattr(rules, name) is getattr(channel_rules, name) for name in channel_rules.__all__
    )
    assert rules.register_layer_rule is klp.register_layer_rule
