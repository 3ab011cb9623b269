"""App Runner's service model, as botocore has it: what an input must be like, what breaks it, and
what an answer must look like.

Nothing here is written by hand for one operation or member: what the model has is what is checked.
Members that Ekiden relaxes are read from the file that its shapes are generated from.
"""

import copy
import json
import re

import botocore.session

from . import settings

SERVICE = botocore.session.get_session().get_service_model("apprunner")
OPERATIONS = list(SERVICE.operation_names)
RELAXED = json.loads((settings.ROOT / "crates/aws/models/apprunner.relaxed.json").read_text())

# App Runner answers these two in lower case, whatever its model says (specification, section 3.5).
LOWER_CASE = {"AutoScalingConfigurationStatus", "CustomDomainAssociationStatus"}

# Characters of a value that a violation repeats, and violations that are spelt out.
SHOWN_MAX, VIOLATIONS_MAX = 256, 32

CONSTRAINTS = ("min", "max", "pattern", "enum")

# Texts that some pattern of the model refuses, the tamest first.
UNFITTING = ("aws:x", "a b", "a!b", "!", "-", "x\n", "a\nb", "\n", "x\0y", "", "0 vCPU", "0 GB")


def input_of(operation):
    return SERVICE.operation_model(operation).input_shape


def output_of(operation):
    return SERVICE.operation_model(operation).output_shape


def errors_of(operation):
    """The codes that the model says the operation may answer."""
    return {shape.name for shape in SERVICE.operation_model(operation).error_shapes}


# ---- places in an input


def members(shape, place=()):
    """Every member that an input reaches: its place, its shape, and whether it is required."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield (*place, name), member, name in shape.required_members
            yield from members(member, (*place, name))
    elif shape.type_name == "list":
        yield from members(shape.member, (*place, 0))


def given(shape, value, place=()):
    """The same for the members that an example has."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield (*place, name), member, name in shape.required_members
                yield from given(member, value[name], (*place, name))
    elif shape.type_name == "list":
        for index, element in enumerate(value):
            yield from given(shape.member, element, (*place, index))


def generic(place):
    """The place without which element of a list it is."""
    return ".".join(str(part) for part in place if not isinstance(part, int))


def value_at(value, place):
    for part in place:
        value = value[part]
    return value


def replaced(value, place, new):
    """A copy of an input with another value in this place."""
    whole = copy.deepcopy(value)
    value_at(whole, place[:-1])[place[-1]] = new
    return whole


def without(value, place):
    """A copy of an input without this member."""
    whole = copy.deepcopy(value)
    del value_at(whole, place[:-1])[place[-1]]
    return whole


def reduced(shape, value, keep, place=()):
    """An input with what is required, and with the kept places and what they need, only."""
    if shape.type_name == "structure":
        kept = {}
        for name, member in shape.members.items():
            here = (*place, name)
            wanted = name in shape.required_members or any(k[:len(here)] == here for k in keep)
            if name in value and wanted:
                kept[name] = reduced(member, value[name], keep, here)
        return kept
    if shape.type_name == "list":
        return [reduced(shape.member, v, keep, (*place, i)) for i, v in enumerate(value)]
    return value


# ---- constraints, and the sentences for what violates them


def constraints(shape, relaxed=True):
    """What the model asks of a value; with what Ekiden relaxes unless told otherwise."""
    asked = {name: shape.metadata[name] for name in CONSTRAINTS if name in shape.metadata}
    if relaxed:
        asked |= {k: v for k, v in RELAXED.get(shape.name, {}).items() if k in CONSTRAINTS}
    return {name: limit for name, limit in asked.items() if limit is not None}


def tails(asked, value):
    """The sentences for the constraints on a text or number that `value` violates, in order."""
    found = []
    if isinstance(value, str):
        if "pattern" in asked and not re.fullmatch(asked["pattern"], value):
            found.append(pattern_tail(asked))
        if "max" in asked and len(value) > asked["max"]:
            found.append(max_tail(asked))
        if "min" in asked and len(value) < asked["min"]:
            found.append(min_tail(asked))
        if "enum" in asked and value not in asked["enum"]:
            found.append(enum_tail(asked))
        return found
    if "max" in asked and value > asked["max"]:
        found.append(f"Member must have value less than or equal to {asked['max']}")
    if "min" in asked and value < asked["min"]:
        found.append(f"Member must have value greater than or equal to {asked['min']}")
    return found


def pattern_tail(asked):
    return f"Member must satisfy regular expression pattern: {asked['pattern']}"


def max_tail(asked):
    return f"Member must have length less than or equal to {asked['max']}"


def min_tail(asked):
    return f"Member must have length greater than or equal to {asked['min']}"


def enum_tail(asked):
    return f"Member must satisfy enum value set: [{', '.join(asked['enum'])}]"


def all_tails(asked):
    """The constraints of an element, as a violation of its list or map names them all."""
    named = (("max", max_tail), ("min", min_tail), ("pattern", pattern_tail), ("enum", enum_tail))
    return ", ".join(tail(asked) for name, tail in named if name in asked)


def subject(value, sensitive):
    if sensitive:
        return "Value"
    text = str(value)
    return f"Value '{text[:SHOWN_MAX]}{'...' if len(text) > SHOWN_MAX else ''}'"


def sensitive(shape):
    return bool(shape.metadata.get("sensitive"))


def lower(name):
    return name[:1].lower() + name[1:]


def violations(shape, value, path="", partial=False):
    """What Ekiden must say about an input: one sentence for each violated constraint, in order.

    Of a structure that is given in part, nothing is required."""
    rules, found = RELAXED.get(shape.name, {}), []
    for name, member in shape.members.items():
        at = f"{path}.{lower(name)}" if path else lower(name)
        if value.get(name) is None:
            if name in shape.required_members and not partial:
                found.append(sentence("Value null", at, "Member must not be null"))
        elif value[name] != "" or name not in rules.get("unchecked_if_empty", ()):
            in_part = partial or name in rules.get("partial", ())
            found += violations_of_member(member, value[name], at, in_part)
    return found


def violations_of_member(shape, value, at, partial=False):
    asked = constraints(shape)
    if shape.type_name == "structure":
        return violations(shape, value, at, partial)
    if shape.type_name == "list" and shape.member.type_name == "structure":
        return [entry for index, element in enumerate(value)
                for entry in violations(shape.member, element, f"{at}.{index + 1}.member")]
    if shape.type_name == "list":
        asked = constraints(shape.member)
        if not any(tails(asked, element) for element in value):
            return []
        whole = subject(f"[{', '.join(value)}]", sensitive(shape.member))
        return [sentence(whole, at, f"Member must satisfy constraint: [{all_tails(asked)}]")]
    if shape.type_name == "map":
        text = ", ".join(f"{k}={v}" for k, v in sorted(value.items()))
        whole = subject("{" + text + "}", sensitive(shape.key) or sensitive(shape.value))
        return [sentence(whole, at, f"{what} must satisfy constraint: [{all_tails(asked)}]")
                for what, asked, texts in (("Map keys", constraints(shape.key), value.keys()),
                                           ("Map value", constraints(shape.value), value.values()))
                if any(tails(asked, text) for text in texts)]
    if shape.type_name in ("string", "integer"):
        return [sentence(subject(value, sensitive(shape)), at, tail)
                for tail in tails(asked, value)]
    return []


def sentence(what, at, tail):
    return f"{what} at '{at}' failed to satisfy constraint: {tail}"


def message(entries):
    """The whole message for these violations."""
    errors = "error" if len(entries) == 1 else "errors"
    shown = "; ".join(entries[:VIOLATIONS_MAX])
    more = len(entries) - VIOLATIONS_MAX
    return (f"{len(entries)} validation {errors} detected: {shown}"
            + (f"; and {more} more" if more > 0 else ""))


# ---- inputs that break constraints


def breaking(shape, value, relaxed=True):
    """For each constraint on a text or number: its name, and a value that violates it and as
    little else as can be."""
    asked = constraints(shape, relaxed)
    if shape.type_name == "integer":
        if "min" in asked:
            yield "min", asked["min"] - 1
        if "max" in asked:
            yield "max", asked["max"] + 1
    if shape.type_name != "string":
        return
    if asked.get("min"):
        yield "min", value[:asked["min"] - 1]
    if "max" in asked:
        yield "max", value + "a" * (asked["max"] + 1 - len(value))
    if "enum" in asked:
        yield "enum", "NO_SUCH_VALUE"
        yield "enum", value.lower()
    if "pattern" in asked:
        refused = [text for text in (*UNFITTING, value + "!", value + "\n")
                   if not re.fullmatch(asked["pattern"], text)]
        if refused:
            yield "pattern", min(refused, key=lambda text: len(tails(asked, text)))


def breakages(shape, example, relaxed=True):
    """Inputs that violate one constraint each: the member's place, the constraint, the input."""
    for place, member, required in given(shape, example):
        value = value_at(example, place)
        if required:
            yield place, "required", without(example, place)
        for name, broken in breaking(member, value, relaxed):
            yield place, name, replaced(example, place, broken)
        if member.type_name == "list":
            for name, broken in breaking(member.member, "", relaxed) if value else ():
                yield place, f"element {name}", replaced(example, place, [*value, broken])
        if member.type_name == "map" and value:
            (key, old), *_ = value.items()
            for name, broken in breaking(member.key, key, relaxed):
                yield place, f"key {name}", replaced(example, place, {**value, broken: old})
            for name, broken in breaking(member.value, old, relaxed):
                yield place, f"value {name}", replaced(example, place, {**value, key: broken})


WRONG_TYPES = {
    "string": (5, True, [], {}, ["text"]),
    "integer": ("5", 1.5, True, [], {}),
    "boolean": ("true", 1, 0, [], {}),
    "structure": ("text", 5, True, []),
    "list": ("text", 5, {}, True),
    "map": ("text", 5, [], True),
}


def mistyped(shape, example):
    """Inputs with one value of another JSON type than the model's."""
    for place, member, _ in given(shape, example):
        for wrong in WRONG_TYPES[member.type_name]:
            yield place, wrong, replaced(example, place, wrong)
        if member.type_name == "list" and member.member.type_name == "string":
            yield place, [5], replaced(example, place, [5])
        if member.type_name == "map":
            yield place, {"A": 5}, replaced(example, place, {"A": 5})


# ---- answers


def faults(shape, value, at=""):
    """What is wrong with an answer: members that lack, are unknown, or are of a wrong type."""
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            return [f"{at} is no object: {value!r}"]
        found = [f"{at}.{name} is missing" for name in shape.required_members if name not in value]
        for name, inner in value.items():
            if name not in shape.members:
                found.append(f"{at}.{name} is unknown to the model")
            elif inner is None:
                found.append(f"{at}.{name} is null")
            else:
                found += faults(shape.members[name], inner, f"{at}.{name}")
        return found
    if kind == "list":
        if not isinstance(value, list):
            return [f"{at} is no array: {value!r}"]
        return [fault for index, element in enumerate(value)
                for fault in faults(shape.member, element, f"{at}[{index}]")]
    if kind == "map":
        if not isinstance(value, dict):
            return [f"{at} is no object: {value!r}"]
        return [fault for name, element in value.items()
                for fault in faults(shape.value, element, f"{at}[{name}]")]
    wanted = {"string": str, "boolean": bool, "integer": int, "timestamp": int}[kind]
    if type(value) is not wanted:
        return [f"{at} is no {kind}: {value!r}"]
    values = shape.metadata.get("enum") or []
    if shape.name in LOWER_CASE:
        values = [word.lower() for word in values]
    if values and value not in values:
        return [f"{at} is none of {values}: {value!r}"]
    if kind == "string" and value == "" and shape.name == "NextToken":
        return [f"{at} is empty: SDKs would ask for the same page again"]
    return []
