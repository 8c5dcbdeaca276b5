"""The part of Terraform's plugin protocol 5 that a provider needs which only knows its schema.

Terraform asks such a provider for its schema and lets it look at configurations; `mock_provider` and `validate`
ask for nothing else. Field numbers are the protocol's.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
SCALARS = {"string": FIELD.TYPE_STRING, "bytes": FIELD.TYPE_BYTES, "bool": FIELD.TYPE_BOOL, "int64": FIELD.TYPE_INT64}

# Message: {field: (number, type)}. `*` repeats; `map:X` maps texts to X; another name is a message here.
MESSAGES = {
    "DynamicValue": {"msgpack": (1, "bytes"), "json": (2, "bytes")},
    "Diagnostic": {"severity": (1, "int64"), "summary": (2, "string"), "detail": (3, "string")},
    "Attribute": {
        "name": (1, "string"),
        "type": (2, "bytes"),
        "required": (4, "bool"),
        "optional": (5, "bool"),
        "computed": (6, "bool"),
    },
    "NestedBlock": {
        "type_name": (1, "string"),
        "block": (2, "Block"),
        "nesting": (3, "int64"),
        "min_items": (4, "int64"),
        "max_items": (5, "int64"),
    },
    "Block": {"attributes": (2, "*Attribute"), "block_types": (3, "*NestedBlock")},
    "Schema": {"version": (1, "int64"), "block": (2, "Block")},
    "Empty": {},
    "Schemas": {
        "provider": (1, "Schema"),
        "resource_schemas": (2, "map:Schema"),
        "data_source_schemas": (3, "map:Schema"),
    },
    "Config": {"config": (1, "DynamicValue")},
    "Prepared": {"prepared_config": (1, "DynamicValue"), "diagnostics": (2, "*Diagnostic")},
    "Diagnostics": {"diagnostics": (1, "*Diagnostic")},
}

NESTING = {"single": 1, "list": 2, "set": 3}


def _field(message, name, number, kind):
    field = message.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL)
    if kind.startswith("*"):
        field.label, kind = FIELD.LABEL_REPEATED, kind[1:]
    if kind.startswith("map:"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _field(entry, "key", 1, "string")
        _field(entry, "value", 2, kind[4:])
        field.label, kind = FIELD.LABEL_REPEATED, f"{message.name}.{entry.name}"
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = FIELD.TYPE_MESSAGE, f".backstop.{kind}"


def _classes():
    file = descriptor_pb2.FileDescriptorProto(name="backstop.proto", package="backstop", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"backstop.{name}"))
    return {name: find(name) for name in MESSAGES}


CLASSES = _classes()


def new(name, /, **fields):
    return CLASSES[name](**fields)
