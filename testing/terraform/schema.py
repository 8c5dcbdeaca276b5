"""The schema of the current AWS provider, read from a package that was generated from it.

Every resource and data source has a JavaScript file in the package. It states for each argument whether it is
required, optional or computed (comments), its type and whether it is a block (`...ToHclTerraform`), and how
often a block may stand (the class that holds it). Limits: the package does not state sensitive and deprecated, and does not
distinguish nested attributes of the newer plugin framework from blocks.
"""

import json
import os
import re
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "cdktn-provider-aws"
PACKAGE_VERSION = "25.8.1"
PROVIDER_VERSION = "6.69.1"

CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+) \{$(.*?)^\}$", re.M | re.S)
MEMBER = re.compile(
    r"^    // (?P<name>\w+) - computed: (?P<computed>\w+), optional: (?P<optional>\w+), required: (?P<required>\w+)\n"
    r"(?P<body>.*?)(?=^    // \w+ - computed|\Z)",
    re.M | re.S,
)
FUNCTION = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{$(.*?)^\}$", re.M | re.S)
SYNTHESIS = re.compile(r"synthesizeHclAttributes\(\) \{(.*?)^    \}$", re.M | re.S)
INPUT = re.compile(
    r"(?P<name>\w+): \{\s+value: [^\n]*\n\s+isBlock: (?P<block>\w+),\s+type: \"(?P<type>\w+)\",\s+"
    r"storageClassType: \"(?P<storage>\w+)\""
)
HELD = re.compile(r"^    _\w+ = new (?P<struct>\w+?)(?P<kind>List|OutputReference|Map)\(this, \"\w+\"(?:, (?P<set>\w+))?\)", re.M)
GETTER = re.compile(r"get(?P<type>\w+)Attribute\(")

SCALARS = {"string": "string", "number": "number", "boolean": "bool"}
GETTERS = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "BooleanMap": ["map", "bool"],
    "NumberMap": ["map", "number"],
    "AnyMap": ["map", "string"],
}


def extract(wheel, files):
    """Takes the named files out of the package: {name: text}. A name it lacks is missing from the answer."""
    wanted = {f"package/lib/{name}/index.js": name for name in files}
    found = {}
    with zipfile.ZipFile(wheel) as package:
        archive = next(name for name in package.namelist() if name.endswith(".jsii.tgz"))
        with package.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            for entry in tar:
                if entry.name in wanted:
                    text = tar.extractfile(entry).read().decode()
                    found[wanted[entry.name]] = text.split("//# sourceMappingURL")[0]
    return found


def read(text):
    """The schema of one file: {"attributes": {...}, "blocks": {...}}."""
    classes = {name: (base, body) for name, base, body in CLASS.findall(text)}
    functions = {name: inputs(body) for name, body in FUNCTION.findall(text)}
    for base, body in classes.values():
        if base in ("TerraformResource", "TerraformDataSource", "TerraformProvider"):
            return block(body, inputs(SYNTHESIS.search(body).group(1)), classes, functions)
    raise ValueError("the file has no resource")


def inputs(body):
    """Returns the arguments: {name: (is a block, type, storage class)}."""
    return {m["name"]: (m["block"] == "true", m["type"], m["storage"]) for m in INPUT.finditer(body)}


def block(body, written, classes, functions):
    attributes, blocks = {}, {}
    for member in MEMBER.finditer(body):
        name, flags = member["name"], {flag: member[flag] == "true" for flag in ("computed", "optional", "required")}
        held = HELD.search(member["body"])
        is_block, kind, storage = written.get(name, (False, None, None))
        if held and is_block:
            blocks[name] = {
                "nesting": "single" if kind == "struct" else kind,
                "min": int(flags["required"] and kind != "struct"),
                "max": 1 if held["kind"] == "OutputReference" and kind != "struct" else 0,
                "block": nested(held["struct"], classes, functions),
            }
        elif is_block:
            blocks[name] = {"nesting": kind, "min": 0, "max": 0, "block": loose(storage, functions)}
        elif held:
            attributes[name] = {"type": computed_type(held, classes, functions)} | flags
        else:
            attributes[name] = {"type": scalar(kind, storage, member["body"])} | flags
    return {"attributes": attributes, "blocks": blocks}


def nested(struct, classes, functions):
    body = classes[f"{struct}OutputReference"][1]
    return block(body, functions.get(struct[0].lower() + struct[1:], {}), classes, functions)


def scalar(kind, storage, body):
    """Returns the type of an argument, or of a read-only attribute by its getter."""
    if kind is None:
        getter = GETTER.search(body)
        return GETTERS.get(getter["type"], "string") if getter else "string"
    if kind == "simple":
        return SCALARS[storage]
    element = next(scalar for prefix, scalar in SCALARS.items() if storage.startswith(prefix))
    return [kind, element]


def computed_type(held, classes, functions):
    """The type of a list, set or object that the provider fills in."""
    content = nested(held["struct"], classes, functions)
    fields = {name: attribute["type"] for name, attribute in content["attributes"].items()}
    for name, inner in content["blocks"].items():
        fields[name] = [inner["nesting"], object_type(inner["block"])]
    as_object = ["object", fields]
    if held["kind"] == "OutputReference":
        return as_object
    return ["map" if held["kind"] == "Map" else "set" if held["set"] == "true" else "list", as_object]


def object_type(content):
    return ["object", {name: attribute["type"] for name, attribute in content["attributes"].items()}]


def loose(storage, functions):
    """A block of the provider's own configuration: the package does not state its required arguments."""
    struct = storage.removesuffix("List")
    content = {"attributes": {}, "blocks": {}}
    for name, (_, kind, inner) in functions[struct[0].lower() + struct[1:]].items():
        content["attributes"][name] = {"type": scalar(kind, inner, ""), "computed": False, "optional": True, "required": False}
    return content


def file_of(kind, name):
    """Where the package keeps a resource or a data source: `aws_iam_role` is in `iam-role`."""
    if kind == "provider":
        return "provider"
    plain = name.removeprefix("aws_").replace("_", "-")
    return plain if kind == "resource" else f"data-aws-{plain}"


def load(wheel, wanted, cache):
    """Schemas of the wanted (kind, name) pairs, kept in the file `cache`. Names that the provider lacks are left out."""
    cache = Path(cache)
    known = json.loads(cache.read_text()) if cache.exists() else {}
    files = {file_of(kind, name): f"{kind} {name}" for kind, name in wanted}
    missing = {file: key for file, key in files.items() if key not in known}
    if missing:
        texts = extract(wheel, missing)
        known |= {key: read(texts[file]) if file in texts else None for file, key in missing.items()}
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(known))
        fresh.replace(cache)
    return {key: known[key] for key in files.values() if known[key] is not None}
