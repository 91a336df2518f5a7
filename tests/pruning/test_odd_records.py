"""Records of results that say odd things, or do not belong together: each is named."""

import copy
import json
import math

import pytest
from saved_results import change, in_hidden, with_config

import keras_lrp_prune as klp

DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = {
    **{text: text for text in ("", "null", "[]", "3", '"text"', "true", "{", "NaN", "{}")},
    "deep": DEEP,
    "deep inside": '{"keras": ' + DEEP + "}",
    "a huge number": "1" * 10_000,
    "no text": "\ud800",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_that_is_none_is_named(folder, text):
    (folder / "result.json").write_bytes(TEXTS[text].encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"result\.json' is damaged"):
        klp.load_result(folder)


ODD = (None, [], {}, [None], {"a": None}, "text", -1, 3.5, math.nan, math.inf, 10**400, True, DEEP)
# What these values are good for.
FITTING = {
    "kept": ({},),
    **dict.fromkeys(("validation", "class_names"), (None,)),
    "stopped": ("text", DEEP),
    "rate": (-1, 3.5),
    **dict.fromkeys(("protected", "barriers"), ({},)),
    **dict.fromkeys(("uncounted", "frozen_weights"), ([],)),
}


def test_every_odd_entry_of_a_record_is_reported(folder):
    record = json.loads((folder / "result.json").read_text())
    step, *others = record["history"]
    cases = [
        {**record, key: odd} for key in record for odd in ODD if odd not in FITTING.get(key, ())
    ]
    optional = ("model_sha256", "class_names", "frozen_weights")
    cases += [
        {other: record[other] for other in record if other != key}
        for key in record
        if key not in optional
    ]
    for key in step:
        cases += [
            {**record, "history": [{**step, key: odd}, *others]}
            for odd in (None, [None], {}, math.nan, 10**400)
        ]
    cases += [{**record, "history": [{**step, "further": 1}]}]
    cases += [{**record, "cost_before": {**record["cost_before"], "flops": odd}} for odd in ODD[:6]]
    cases += [{**record, "reference": {"before": record["reference"]["before"]}}]
    cases = [
        case
        for case in cases
        if case != record and case.get("model_sha256") == record["model_sha256"]
    ]
    taken = []
    for case in cases:
        (folder / "result.json").write_text(json.dumps(case))
        try:
            klp.load_result(folder)
            taken.append({key: value for key, value in case.items() if record.get(key) != value})
        except ValueError as error:
            assert "result.json' is damaged" in str(error)
    assert not taken and len(cases) > 150


SETTINGS = ("criterion", "recovery", "min_accuracy", "not_recovered", "steering", "budget")


@pytest.mark.parametrize("name", SETTINGS)
def test_odd_settings_are_reported(folder, name):
    settings = json.loads((folder / "result.json").read_text())["settings"]
    change(folder, settings={**settings, name: [3]})
    with pytest.raises(ValueError, match=rf"result\.json' is damaged: settings\.{name}"):
        klp.load_result(folder)


def cut(values):
    return values[:-1]


# What of a record is changed, how, and what the error says of it.
APART = {
    "no step": (("history",), lambda _: [], "history has no accepted step"),
    "steps undone": (("history", 0, "accepted"), lambda _: False, "history has no accepted step"),
    "step": (("history", 0, "class_accuracies"), cut, r"history\[0\]\.class_accuracies has 2"),
    "soft": (("history", 0, "soft_class_accuracies"), cut, "soft_class_accuracies has 2"),
    "support": (("reference", "after", "support"), lambda _: [], "after.support has 0 entries"),
    "recall": (("reference", "before", "recall"), cut, "before.recall has 2 entries, for 3"),
    "validation": (("validation", "before", "recall"), cut, "validation.before.recall has 2"),
    "no budget": (("settings", "budget"), lambda _: None, "remaining has 'flops', which is not"),
    "another": (("settings", "budget"), lambda _: {"parameters": 1}, "remaining has 'flops'"),
}


@pytest.mark.parametrize("name", APART)
def test_parts_of_a_record_that_do_not_belong_together_are_reported(folder, name):
    (*path, last), edit, message = APART[name]
    record = json.loads((folder / "result.json").read_text())
    record["history"] = record["history"][:1]
    record["validation"] = copy.deepcopy(record["reference"])
    record["settings"] |= {"budget": {"flops": 0.5}, "remaining": {"flops": 0.4}}
    change(folder, **record)
    klp.load_result(folder).summary()
    part = record
    for key in path:
        part = part[key]
    part[last] = edit(part[last])
    change(folder, **record)
    with pytest.raises(ValueError, match=rf"result\.json' is damaged: .*{message}"):
        klp.load_result(folder)


def test_no_text_of_a_result_steers_the_terminal(folder, capsys):
    red = "\x1b[31m\a"
    record = json.loads((folder / "result.json").read_text())
    budget = {"budget": {red: 0.5}, "remaining": {red: 0.5}}
    settings = {**record["settings"], "criterion": red, "recovery": red, "asked_recovery": "auto"}
    change(folder, stopped=red, settings={**settings, **budget}, protected={red: red})
    result = klp.load_result(folder)
    result.summary()
    shown = [repr(result), result._repr_html_(), capsys.readouterr().out]
    change(folder, class_names=[red])
    with pytest.raises(ValueError, match="is damaged: There are 1 class names") as error:
        klp.load_result(folder)
    with_config(folder / "model.keras", folder / "new", in_hidden(module=red, class_name=red))
    (folder / "new").replace(folder / "model.keras")
    change(folder, class_names=None)
    with pytest.raises(ValueError, match="no part of Keras") as foreign:
        klp.load_result(folder)
    for text in (*shown, str(error.value), str(foreign.value)):
        assert "\\x1b[31m" in text and "\x1b" not in text and "\a" not in text
